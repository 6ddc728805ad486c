//! The proxy's thread: it accepts, forwards, and does what the script says.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread::JoinHandle;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::port::ReservedPort;
use crate::proxy::message::Request;
use crate::proxy::script::Script;
use crate::proxy::{NetworkFault, Response};

/// What a test asks of the thread; done when [`Server::command`] returns.
pub(super) enum Command {
    Listen,
    Refuse,
    Reset,
}

type Ordered = (Command, std_mpsc::Sender<()>);

pub(super) struct Server {
    /// `None` once it was told to stop.
    commands: Option<mpsc::UnboundedSender<Ordered>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(upstream: String, script: Arc<Script>) -> (Self, SocketAddr) {
        let (commands, orders) = mpsc::unbounded_channel();
        let (started, start) = std_mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("faulty-proxy".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_io()
                    .build()
                    .expect("the system lets a test start a runtime");
                runtime.block_on(async {
                    let port = ReservedPort::new().expect("the system has a free port");
                    let listener = port.listen().expect("the reserved port can be used");
                    started
                        .send(port.address())
                        .expect("the starter of the thread waits for its address");
                    serve(&port, listener, orders, &upstream, &script).await;
                });
            })
            .expect("the system lets a test start a thread");
        let address = start.recv().expect("the proxy starts");
        let server = Self {
            commands: Some(commands),
            thread: Some(thread),
        };
        (server, address)
    }

    pub(super) fn command(&self, command: Command) {
        let (done, wait) = std_mpsc::channel();
        let commands = self.commands.as_ref().expect("the proxy is running");
        commands
            .send((command, done))
            .ok()
            .and_then(|()| wait.recv().ok())
            .expect("the proxy's thread is running");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed, and must not become a second one here.
            let _ = thread.join();
        }
    }
}

async fn serve(
    port: &ReservedPort,
    listener: TcpListener,
    mut orders: mpsc::UnboundedReceiver<Ordered>,
    upstream: &str,
    script: &Arc<Script>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => {
                let Some((command, done)) = order else {
                    return;
                };
                match command {
                    Command::Listen if listener.is_none() => {
                        listener = Some(port.listen().expect("the reserved port can be used"));
                    }
                    Command::Listen => {}
                    Command::Refuse => {
                        listener = None;
                        connections.shutdown().await;
                    }
                    Command::Reset => connections.shutdown().await,
                }
                // Whoever gave the order may have gone away.
                let _ = done.send(());
            }
            accepted = accept(listener.as_ref()) => {
                // A client that is gone before it was accepted is no concern of the test.
                if let Ok(client) = accepted {
                    script.count_connection();
                    connections.spawn(connection(client, upstream.to_owned(), Arc::clone(script)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => Ok(listener.accept().await?.0),
        None => std::future::pending().await,
    }
}

/// Serves one client. Errors end the connection: what the client sees is what a network would show it.
async fn connection(client: TcpStream, upstream: String, script: Arc<Script>) {
    // A connection that is dropped is reset, not closed in order, except where `answer` says otherwise.
    let _ = client.set_zero_linger();
    let _ = client.set_nodelay(true);
    let mut client = BufReader::new(client);
    while let Ok(Some(request)) = Request::read(&mut client).await {
        let fault = script.arrived();
        if answer(&mut client, &request, fault, &upstream, &script)
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn answer(
    client: &mut BufReader<TcpStream>,
    request: &Request,
    fault: Option<NetworkFault>,
    upstream: &str,
    script: &Script,
) -> io::Result<()> {
    match &fault {
        Some(NetworkFault::Hang) => std::future::pending().await,
        Some(NetworkFault::Cut) => return Err(io::ErrorKind::ConnectionReset.into()),
        Some(NetworkFault::Answer {
            status,
            headers,
            body,
        }) => {
            let response = Response::new(*status, headers.clone(), body.clone());
            return client.get_mut().write_all(&response.encode()).await;
        }
        Some(NetworkFault::Pause(gate)) => gate.pass().await,
        _ => {}
    }
    let mut response = forward(request, upstream, script).await?;
    match &fault {
        Some(NetworkFault::LoseAnswer) => return Err(io::ErrorKind::ConnectionReset.into()),
        Some(NetworkFault::CutAnswer) => {
            let bytes = response.encode();
            let half = bytes.len() - response.body_len().div_ceil(2).max(1);
            client.get_mut().write_all(&bytes[..half]).await?;
            // Closed in order, so that the first half arrives.
            client.get_mut().shutdown().await?;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Some(NetworkFault::Alter(change)) => change(response.body_mut()),
        _ => {}
    }
    client.get_mut().write_all(&response.encode()).await
}

async fn forward(request: &Request, upstream: &str, script: &Script) -> io::Result<Response> {
    let mut service = BufReader::new(TcpStream::connect(upstream).await?);
    script.count_forwarded();
    service.get_mut().write_all(&request.encode()).await?;
    Response::read(&mut service, request).await
}
