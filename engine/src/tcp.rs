//! TCP connections of others that carry media: what the kernel may hold of what a peer does not take.

use std::io;
use std::os::fd::AsFd;

use crate::sys::socket::set_option;

/// Bounds what waits in the kernel before it is sent (`TCP_NOTSENT_LOWAT`): beyond it the socket is not
/// writable, so that whoever writes learns at once of a peer that takes too little. What is on its way is
/// not bounded, and so neither is the rate.
///
/// # Errors
/// It is no TCP socket.
pub fn limit_unsent(socket: &impl AsFd, bytes: u32) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// What goes into a connection whose peer takes nothing.
    fn taken(limit: Option<u32>) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
        let address = listener.local_addr().expect("it is bound");
        let mut stream = TcpStream::connect(address).expect("it listens");
        let _peer = listener.accept().expect("it was connected to");
        stream.set_nonblocking(true).expect("it is a socket");
        if let Some(bytes) = limit {
            limit_unsent(&stream, bytes).expect("Linux has the option");
        }
        let mut taken = 0;
        loop {
            match stream.write(&[0; 4096]) {
                Ok(len) => taken += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return taken,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_peer_that_takes_nothing_holds_up_the_writer_soon() {
        let limited = taken(Some(16 << 10));
        let unlimited = taken(None);
        assert!(limited < unlimited / 2, "{limited} of {unlimited}");
    }
}
