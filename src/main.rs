//! The process: arguments in, an exit code out. There is no logic here.

use tikv_jemallocator::Jemalloc;

/// Gives back what it does not need. With glibc's own, a replica under load and faults came to twice the
/// resident memory within minutes, and to more each hour, of blocks long gone.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> std::process::ExitCode {
    blockcast::cli::main(std::env::args_os())
}
