//! The commands as people run them: the real binary, its output, its signals and its exit codes.

mod certificates;
mod check;
mod program;
mod publish;
mod publish_node;
mod secrets;
mod serve;
mod tail;
