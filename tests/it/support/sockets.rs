//! What the kernel's sockets take.

/// proc(5) counts pages.
const PAGE_BYTES: u64 = 4_096;

/// Of all TCP sockets of this machine, those of others too.
pub fn socket_bytes() -> u64 {
    let sockets = std::fs::read_to_string("/proc/net/sockstat").expect("Linux");
    let tcp = sockets.lines().find(|line| line.starts_with("TCP:")).expect("a line of TCP");
    let pages = tcp.rsplit(' ').next().expect("its last field");
    pages.parse::<u64>().expect("a number") * PAGE_BYTES
}
