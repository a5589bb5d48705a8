//! The task of a connection that many handles share: calls in, answers out.

use alloc::collections::BTreeMap;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::connection::Connection;
use crate::error::Error;
use crate::session::{Cookie, Event, Session, StartError, TakeAll};

/// What handles say to the task.
pub(super) enum Message {
    Call(Call),
    /// No more calls; answered when the connection is closed.
    Goodbye(oneshot::Sender<Result<(), Error>>),
}

pub(super) type Start = Box<dyn FnOnce(&mut Session) -> Result<Cookie, StartError> + Send>;

/// A request, who waits for it, and its place among those in flight.
pub(super) struct Call {
    pub(super) start: Start,
    pub(super) answer: oneshot::Sender<Result<Vec<u8>, Error>>,
    pub(super) _permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

/// A call whose request is on the wire, and the data that came for it.
struct Waiting {
    call: Call,
    data: Vec<u8>,
}

/// The task of a connection: takes calls, moves bytes, hands answers out, until nobody can call any more or the connection fails.
pub(super) async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    mut connection: Connection<S>,
    mut inbox: mpsc::Receiver<Message>,
) {
    let mut waiting = BTreeMap::new();
    let (mut goodbye, mut take_all) = (None, TakeAll);
    loop {
        let busy = connection.in_flight() > 0;
        tokio::select! {
            message = inbox.recv(), if goodbye.is_none() => match message {
                Some(Message::Call(call)) => begin(&mut connection, &mut waiting, call),
                Some(Message::Goodbye(answer)) => goodbye = Some(Some(answer)),
                None => goodbye = Some(None),
            },
            event = connection.next_event(&mut take_all), if busy => match event {
                Ok(Some(event)) => hand_out(&mut waiting, event),
                Ok(None) => {}
                Err(error) => return give_up(waiting, &mut inbox, goodbye.flatten(), &error),
            },
            // nothing to wait for and nothing to come
            else => break,
        }
    }
    let closed = connection.disconnect().await;
    if let Some(Some(answer)) = goodbye {
        answer.send(closed).ok();
    }
}

fn begin<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<S>,
    waiting: &mut BTreeMap<Cookie, Waiting>,
    mut call: Call,
) {
    // dropped before it was sent
    if call.answer.is_closed() {
        return;
    }
    let start = core::mem::replace(&mut call.start, Box::new(|_| Err(StartError::Ending)));
    match connection.start(start) {
        Ok(cookie) => {
            waiting.insert(cookie, Waiting { call, data: Vec::new() });
        }
        Err(error) => {
            call.answer.send(Err(error)).ok();
        }
    }
}

fn hand_out(waiting: &mut BTreeMap<Cookie, Waiting>, event: Event) {
    let cookie = event.cookie();
    let result = match event {
        Event::Read { data, .. } => {
            if let Some(waiting) = waiting.get_mut(&cookie) {
                waiting.data = data;
            }
            return;
        }
        Event::Done { .. } => Ok(()),
        Event::Failed { error, .. } => Err(error.into()),
        Event::Status { .. } | Event::Drained { .. } => return,
    };
    // one whose call was dropped gets no answer
    if let Some(Waiting { call, data }) = waiting.remove(&cookie) {
        call.answer.send(result.map(|()| data)).ok();
    }
}

/// The connection is gone: everybody who waits is told why.
fn give_up(
    waiting: BTreeMap<Cookie, Waiting>,
    inbox: &mut mpsc::Receiver<Message>,
    goodbye: Option<oneshot::Sender<Result<(), Error>>>,
    error: &Error,
) {
    inbox.close();
    for waiting in waiting.into_values() {
        waiting.call.answer.send(Err(again(error))).ok();
    }
    while let Ok(message) = inbox.try_recv() {
        match message {
            Message::Call(call) => call.answer.send(Err(again(error))).err().map(drop),
            Message::Goodbye(answer) => answer.send(Err(again(error))).err().map(drop),
        };
    }
    if let Some(answer) = goodbye {
        answer.send(Err(again(error))).ok();
    }
}

/// The error of a connection for one more of those who wait.
fn again(error: &Error) -> Error {
    match error {
        Error::Protocol(error) => Error::Protocol(*error),
        Error::ConnectionLost(eof) => Error::ConnectionLost(*eof),
        Error::Timeout { during, after } => Error::Timeout { during: *during, after: *after },
        Error::OutOfTime { during } => Error::OutOfTime { during: *during },
        Error::Io { during, source } => {
            Error::Io { during: *during, source: io::Error::new(source.kind(), source.to_string()) }
        }
        _ => Error::GivenUp,
    }
}
