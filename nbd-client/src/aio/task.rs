//! The task of a connection that many handles share: calls in, answers out.

use alloc::collections::BTreeMap;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::driver::Driver;
use crate::connection::{Connection, Transfer};
use crate::error::Error;
use crate::session::{Cookie, Event, take_all};

/// A message from a handle to the task.
pub(super) enum Message {
    Call(Call),
    /// No more calls; answered when the connection is closed.
    Goodbye(oneshot::Sender<Result<(), Error>>),
}

/// A transfer, who waits for it, and its place among those in flight.
pub(super) struct Call {
    pub(super) transfer: Transfer,
    pub(super) answer: Answer,
    pub(super) permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

/// A call that is under way, and the data that came for it.
struct Waiting {
    answer: Answer,
    data: Vec<u8>,
    _permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

type WaitingCalls = BTreeMap<Cookie, Waiting>;

/// The sender of the answer to a call.
pub(super) type Answer = oneshot::Sender<Result<Vec<u8>, Error>>;

/// The task of a connection: takes calls, moves bytes, hands answers out, until nobody can call any
/// more, the goodbye is asked for and all is answered, or the connection fails.
pub(super) async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    mut driver: Driver<S>,
    mut inbox: mpsc::Receiver<Message>,
) {
    let mut waiting = WaitingCalls::new();
    let (mut goodbye, mut take_all) = (None, take_all);
    loop {
        let busy = driver.in_flight() > 0;
        tokio::select! {
            message = inbox.recv(), if goodbye.is_none() => match message {
                Some(Message::Call(call)) => begin(&mut driver.io.connection, &mut waiting, call),
                Some(Message::Goodbye(answer)) => goodbye = Some(answer),
                // nobody waits for an answer
                None => break,
            },
            event = driver.next_event(&mut take_all), if busy => match event {
                Ok(Some(event)) => {
                    hand_out(&mut waiting, event);
                    cancel_dropped(&mut driver.io.connection, &mut waiting);
                }
                Ok(None) => {}
                Err(error) => {
                    return give_up(&driver.io.connection, waiting, &mut inbox, goodbye, &error);
                }
            },
            // the call for the goodbye was dropped
            () = given_up(&mut goodbye), if busy && goodbye.is_some() => break,
            // nothing to wait for and nothing to come
            else => break,
        }
    }
    let closed = driver.disconnect().await;
    if let Some(answer) = goodbye {
        answer.send(closed).ok();
    }
}

/// Waits until nobody waits for the goodbye.
async fn given_up(goodbye: &mut Option<oneshot::Sender<Result<(), Error>>>) {
    if let Some(answer) = goodbye {
        answer.closed().await;
    }
}

fn begin(connection: &mut Connection, waiting: &mut WaitingCalls, call: Call) {
    let Call { transfer, answer, permits } = call;
    // dropped before it was sent
    if answer.is_closed() {
        return;
    }
    match connection.begin(None, transfer, Instant::now()) {
        Ok(cookie) => {
            waiting.insert(cookie, Waiting { answer, data: Vec::new(), _permits: permits });
        }
        Err(error) => drop(answer.send(Err(error))),
    }
}

/// Sends nothing more of calls that were dropped.
fn cancel_dropped(connection: &mut Connection, waiting: &mut WaitingCalls) {
    let dropped = waiting.iter().filter(|(_, waiting)| waiting.answer.is_closed());
    dropped.for_each(|(&cookie, _)| connection.transfers.cancel(cookie));
}

fn hand_out(waiting: &mut WaitingCalls, event: Event) {
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
    if let Some(Waiting { answer, data, .. }) = waiting.remove(&cookie) {
        answer.send(result.map(|()| data)).ok();
    }
}

/// The connection is gone: everybody who waits is told why.
fn give_up(
    connection: &Connection,
    waiting: WaitingCalls,
    inbox: &mut mpsc::Receiver<Message>,
    goodbye: Option<oneshot::Sender<Result<(), Error>>>,
    error: &Error,
) {
    inbox.close();
    for (cookie, waiting) in waiting {
        // why the server failed a part says more than that it went away then
        let error = connection.transfers.failure(cookie).map_or_else(|| error.clone(), Error::from);
        waiting.answer.send(Err(error)).ok();
    }
    while let Ok(message) = inbox.try_recv() {
        match message {
            Message::Call(call) => call.answer.send(Err(error.clone())).err().map(drop),
            Message::Goodbye(answer) => answer.send(Err(error.clone())).err().map(drop),
        };
    }
    if let Some(answer) = goodbye {
        answer.send(Err(error.clone())).ok();
    }
}
