//! The line between a repository and the server, which a test can stop or cut.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

/// Forwards TCP connections to a server, from a port of the loopback interface.
pub(crate) struct Line {
    address: SocketAddr,
    state: Arc<State>,
    listening: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    flow: Mutex<Flow>,
    changed: Condvar,
    talk: Mutex<Talk>,
}

/// Who spoke last, on a line with one connection.
#[derive(Default)]
struct Talk {
    to_server: bool,
    round_trips: usize,
}

#[derive(Default)]
struct Flow {
    /// Where new connections lead.
    server: String,
    /// Nothing is forwarded, and all sockets stay open.
    hanging: bool,
    /// What the server says next is not forwarded, and its connection closed.
    losing: bool,
    /// Connections with lower numbers stay as hanging as they are.
    first_alive: usize,
    /// Nobody listens.
    cut: bool,
    connections: Vec<(TcpStream, TcpStream)>,
}

impl Line {
    /// To the server of this URL.
    pub(crate) fn to(url: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut line = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
            listening: None,
        };
        line.lead_to(url);
        line.listen(listener);
        line
    }

    /// The URL with this line's address in place of the server's.
    pub(crate) fn url(&self, url: &str) -> String {
        url.replacen(server_of(url), &self.address.to_string(), 1)
    }

    /// Forwards new connections to the server of this URL. Those that there are stay where they are.
    pub(crate) fn lead_to(&self, url: &str) {
        self.change(|flow| flow.server = server_of(url).to_owned());
    }

    /// How often the client spoke after the server.
    pub(crate) fn round_trips(&self) -> usize {
        self.state.talk.lock().unwrap().round_trips
    }

    /// Forwards nothing any more, while all sockets stay open and new connections are accepted.
    pub(crate) fn hang(&self) {
        self.change(|flow| flow.hanging = true);
    }

    /// Loses the next answer of the server, and closes its connection.
    pub(crate) fn lose_next_answer(&self) {
        self.change(|flow| flow.losing = true);
    }

    /// Forwards what was held back, and all that comes.
    pub(crate) fn resume(&self) {
        self.change(|flow| flow.hanging = false);
    }

    /// Forwards new connections. Those that there are stay hanging.
    pub(crate) fn serve_new_connections(&self) {
        self.change(|flow| {
            flow.first_alive = flow.connections.len();
            flow.hanging = false;
        });
    }

    /// Closes all connections, and refuses new ones.
    pub(crate) fn cut(&mut self) {
        self.change(|flow| {
            flow.cut = true;
            flow.close();
        });
        // Wakes it.
        drop(TcpStream::connect(self.address));
        self.listening.take().unwrap().join().unwrap();
    }

    /// Listens again after a cut.
    pub(crate) fn mend(&mut self) {
        self.change(|flow| flow.cut = false);
        self.listen(TcpListener::bind(self.address).unwrap());
    }

    fn listen(&mut self, listener: TcpListener) {
        let state = Arc::clone(&self.state);
        self.listening = Some(thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let flow = state.flow.lock().unwrap();
                if flow.cut {
                    return;
                }
                let server = TcpStream::connect(&flow.server).unwrap();
                drop(flow);
                for stream in [&client, &server] {
                    stream.set_nodelay(true).unwrap();
                }
                let number = {
                    let mut flow = state.flow.lock().unwrap();
                    let both = (client.try_clone().unwrap(), server.try_clone().unwrap());
                    flow.connections.push(both);
                    flow.connections.len() - 1
                };
                for (to_server, from, to) in [
                    (
                        true,
                        client.try_clone().unwrap(),
                        server.try_clone().unwrap(),
                    ),
                    (false, server, client),
                ] {
                    let state = Arc::clone(&state);
                    thread::spawn(move || state.forward(number, to_server, from, to));
                }
            }
        }));
    }

    fn change(&self, change: impl FnOnce(&mut Flow)) {
        change(&mut self.state.flow.lock().unwrap());
        self.state.changed.notify_all();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.listening.is_some() {
            self.cut();
        }
    }
}

impl State {
    fn forward(&self, number: usize, to_server: bool, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; 4096];
        loop {
            let count = from.read(&mut bytes).unwrap_or(0);
            let flow = self.flow.lock().unwrap();
            let mut flow = self
                .changed
                .wait_while(flow, |flow| {
                    !flow.cut && (flow.hanging || number < flow.first_alive)
                })
                .unwrap();
            let lost = !to_server && std::mem::take(&mut flow.losing);
            drop(flow);
            if lost {
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
            // Before it is sent: who gets it may answer at once.
            self.talk.lock().unwrap().spoken(to_server);
            if count == 0 || to.write_all(&bytes[..count]).is_err() {
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

impl Talk {
    fn spoken(&mut self, to_server: bool) {
        self.round_trips += usize::from(to_server && !self.to_server);
        self.to_server = to_server;
    }
}

impl Flow {
    fn close(&self) {
        for (client, server) in &self.connections {
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
    }
}

/// `host:port` of a URL.
fn server_of(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap();
    let authority = rest.split(['/', '?']).next().unwrap();
    authority.rsplit('@').next().unwrap()
}
