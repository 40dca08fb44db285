mod blocks;
mod describe;
mod launch;
mod lifecycle;
mod refusals;
mod reservations;
mod spot;
mod types;
