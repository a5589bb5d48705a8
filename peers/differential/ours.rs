//! The nbd-client half: plays a session and gives its account.

use std::collections::HashMap;
use std::path::Path;

use nbd_client::frame::Headers;
use nbd_client::session::{Cookie, Event, ReadRequest, StatusRequest, take_all};
use nbd_client::{Client, Error, Options, Uri};

use peers::outcome::{Accepted, Account, Ending, SeenExport, fnv};
use peers::{CONTEXTS, Operation};

use crate::session::Session;
use crate::survey::check;

/// The reason of a client that asks for a list which the session does not have.
pub const LISTS: &str = "a list of contexts is asked for";

/// Plays a session against the server at `socket`.
pub fn play(session: &Session, socket: &Path) -> Account {
    let uri: Uri = format!("nbd+unix:///?socket={}", socket.display()).parse().expect("a URI");
    // libnbd 1.14 has no extended headers
    let mut options = Options::new().headers(Headers::Structured);
    for name in &CONTEXTS[..session.contexts] {
        options = options.want_context(*name);
    }
    let mut client = match Client::connect(&uri, &options) {
        Ok(client) => client,
        // It asks what there is when a context is missing, which libnbd does not: a handshake that
        // was sent at once has no answer to that.
        Err(error) if error.to_string().contains("LIST_META_CONTEXT") => {
            return Account::refused(LISTS.into());
        }
        Err(error) => return Account::refused(kind_of(&error)),
    };
    let export = export(client.export());
    let mut open = HashMap::new();
    for (index, operation) in session.operations.iter().enumerate() {
        let cookie = match *operation {
            Operation::Status { offset, length } => {
                client.start(|session| session.start_block_status(&StatusRequest::new(offset, length)))
            }
            Operation::Read { offset, length } => {
                let buffer = vec![0; usize::try_from(length).unwrap()];
                client.start(|session| session.start_read(&ReadRequest::new(offset), buffer))
            }
            Operation::Flush => client.start(|session| session.start_flush()),
        };
        open.insert(cookie.expect("a request of ours can be asked"), (index, Vec::new()));
    }
    let mut operations = vec![Ending::Lost; session.operations.len()];
    let died = finish(&mut client, session, open, &mut operations);
    Account { export: Ok(export), operations, died }
}

type Open = HashMap<Cookie, (usize, Vec<Event>)>;

/// Takes events until every operation is over; returns why the connection ended before that.
fn finish(
    client: &mut Client,
    session: &Session,
    mut open: Open,
    operations: &mut [Ending],
) -> Option<String> {
    while !open.is_empty() {
        let event = match client.next_event(&mut take_all) {
            Ok(Some(event)) => event,
            Ok(None) => panic!("{} requests are open, and no event comes", open.len()),
            Err(error) => return Some(kind_of(&error)),
        };
        let cookie = event.cookie();
        let (index, events) = open.get_mut(&cookie).expect("an event of an open request");
        let index = *index;
        match event {
            Event::Done { .. } => {
                let events = core::mem::take(events);
                operations[index] = accepted(client, session, index, events);
                open.remove(&cookie);
            }
            Event::Failed { error, .. } => {
                operations[index] = Ending::Failed(variant(&error.fault));
                open.remove(&cookie);
            }
            event => events.push(event),
        }
    }
    None
}

/// The content of a reply, which for a status is what a survey accepts.
fn accepted(client: &Client, session: &Session, index: usize, events: Vec<Event>) -> Ending {
    let mut content = Accepted::default();
    let mut payloads = Vec::new();
    for event in events {
        match event {
            Event::Read { data, .. } => content.hash = Some(fnv(&data)),
            Event::Status { context, payload, .. } => {
                let name = &client.export().contexts.iter().find(|known| known.id == context);
                let name = &name.expect("a context that was granted").name;
                let place = CONTEXTS.iter().position(|known| known == name).expect("a context asked for");
                let words = payload[4..].chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap()));
                content.lists.entry(place).or_default().push(words.collect());
                payloads.push(payload);
            }
            other => panic!("an event that has no place here: {other:?}"),
        }
    }
    if let Operation::Status { offset, length } = session.operations[index]
        && let Err(fault) = check(client.export(), offset..offset + length, payloads, &content)
    {
        return Ending::Failed(fault);
    }
    Ending::Done(content)
}

fn export(export: &nbd_client::Export) -> SeenExport {
    let flags = export.flags;
    SeenExport {
        size: export.size(),
        flags: [flags.is_read_only(), flags.can_flush(), flags.can_write_zeroes(), flags.can_trim()],
        min_block: export.block_size.map_or(0, |sizes| sizes.minimum()),
        contexts: CONTEXTS.map(|name| export.context(name).is_some()),
    }
}

fn kind_of(error: &Error) -> String {
    match error {
        Error::Handshake(error) => variant(error),
        Error::Protocol(error) => variant(error),
        Error::Request(error) => variant(&error.fault),
        other => variant(other),
    }
}

/// The name of an error's variant.
pub fn variant(error: &impl core::fmt::Debug) -> String {
    let text = format!("{error:?}");
    text.split(|symbol: char| !symbol.is_alphanumeric()).next().unwrap_or_default().to_owned()
}
