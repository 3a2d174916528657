//! Checks of the checkout that need no broker: rules about the sources, and files that say what the
//! code does.

#[path = "../it/left_out.rs"]
mod left_out;

mod deploy;
mod sources;
