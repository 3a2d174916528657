//! The process: arguments in, an exit code out. There is no logic here.

fn main() -> std::process::ExitCode {
    blockcast::cli::main(std::env::args_os())
}
