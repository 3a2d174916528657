//! Checks of the checkout that need no broker: rules about the sources, and files that say what the
//! code does.

#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime, and it may block"
)]

mod deploy;
mod documents;
mod filters;
mod sources;
