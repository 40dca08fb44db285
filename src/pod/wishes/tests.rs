//! What layers say together, told as cases: a sentence, the layers, and the wishes or the refusal that follow.

mod docs;
mod layering;
mod properties;
mod refusals;
mod support;
mod values;
