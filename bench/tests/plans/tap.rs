//! A way to the server on which the plans of all statements are read off.
//!
//! The server tells them as notices, by `auto_explain`: also of what triggers, functions and foreign keys run below
//! a statement. Client libraries drop notices, so they are taken off the wire.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use serde_json::Value;

/// What was told of one statement.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) statement: String,
    pub(crate) plan: Value,
}

/// Sessions through it tell their plans.
pub(crate) struct Tap {
    /// To be connected to instead of the server's.
    pub(crate) url: String,
    told: Receiver<Told>,
}

impl Tap {
    /// Before this server, whose URL must have the form `postgres://user:password@host:port/database`.
    pub(crate) fn before(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (user, rest) = rest.rsplit_once('@').unwrap();
        let (server, database) = rest.split_once('/').unwrap();
        let database = database.split('?').next().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, told) = channel();
        let server = server.to_owned();
        thread::spawn(move || {
            for client in listener.incoming() {
                let server = TcpStream::connect(&server).unwrap();
                pass(client.unwrap(), server, &sender);
            }
        });
        let options = [
            "session_preload_libraries=auto_explain",
            "auto_explain.log_min_duration=0",
            "auto_explain.log_nested_statements=on",
            "auto_explain.log_format=json",
            "auto_explain.log_level=notice",
        ]
        .map(|option| format!("-c%20{}", option.replace('=', "%3D")))
        .join("%20");
        Self {
            url: format!(
                "{scheme}://{user}@127.0.0.1:{port}/{database}?sslmode=disable&options={options}"
            ),
            told,
        }
    }

    /// What was told so far.
    pub(crate) fn take(&self) -> Vec<Told> {
        self.told.try_iter().collect()
    }
}

fn pass(client: TcpStream, server: TcpStream, told: &Sender<Told>) {
    let (mut from_client, mut to_server) =
        (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let told = told.clone();
    thread::spawn(move || {
        let _ = answers(server, client, &told);
    });
}

/// Each message of a server is a letter, the length of what follows with the length itself, and that. A plan is
/// told before the answer that it belongs to is passed on.
fn answers(
    mut server: TcpStream,
    mut client: TcpStream,
    told: &Sender<Told>,
) -> std::io::Result<()> {
    let mut message = vec![0; 5];
    loop {
        message.resize(5, 0);
        server.read_exact(&mut message)?;
        let length = u32::from_be_bytes([message[1], message[2], message[3], message[4]]);
        message.resize(length as usize + 1, 0);
        server.read_exact(&mut message[5..])?;
        if message[0] == b'N' {
            let _ = plan_in(&message[5..]).map(|plan| told.send(plan));
        }
        client.write_all(&message)?;
    }
}

/// A notice has fields, each a letter and a text that ends with a zero: `M` is what it says.
fn plan_in(notice: &[u8]) -> Option<Told> {
    let mut fields = notice.split(|byte| *byte == 0);
    let said = fields.find_map(|field| field.strip_prefix(b"M"))?;
    let (_, plan) = std::str::from_utf8(said).ok()?.split_once("plan:\n")?;
    let plan: Value = serde_json::from_str(plan).ok()?;
    Some(Told {
        statement: plan["Query Text"].as_str()?.to_owned(),
        plan: plan["Plan"].clone(),
    })
}
