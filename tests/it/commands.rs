//! The commands as people run them: the real binary, its output, its signals and its exit codes.

mod certificates;
mod check;
mod publish;
mod publish_at_once;
mod publish_declares;
mod publish_holes;
mod publish_listed;
mod publish_node;
mod publish_pruned;
mod publish_too_large;
mod publish_trust;
mod publish_unreadable;
mod publish_woken;
mod secret_files;
mod secret_names;
mod secrets;
mod serve;
mod state_files;
mod tail;
