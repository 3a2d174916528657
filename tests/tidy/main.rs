//! Checks of the checkout that need no broker: rules about the sources, and files that say what the
//! code does.

mod deploy;
mod documents;
mod sources;
