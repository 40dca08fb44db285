//! TCP to the machine's private address, where that is routable.
