//! The task of a connection that many handles share: calls in, answers out.

use alloc::collections::BTreeMap;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::driver::Driver;
use crate::connection::{Connection, Transfer};
use crate::error::Error;
use crate::session::{Cookie, Event};

/// A message from a handle to the task.
pub(super) enum Message {
    Call(Transfer, Caller),
    /// No more calls; answered when the connection is closed.
    Goodbye(Answer),
}

/// Who waits for a transfer, the data that came for it, and its place among those in flight.
pub(super) struct Caller {
    pub(super) answer: Answer,
    pub(super) data: Vec<u8>,
    pub(super) _permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

type WaitingCalls = BTreeMap<Cookie, Caller>;

/// The sender of the answer to a call.
pub(super) type Answer = oneshot::Sender<Result<Vec<u8>, Error>>;

/// The task of a connection: takes calls, moves bytes, hands answers out, until nobody can call any
/// more, the goodbye is asked for and all is answered, or the connection fails.
pub(super) async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    mut driver: Driver<S>,
    mut inbox: mpsc::Receiver<Message>,
) {
    let mut waiting = WaitingCalls::new();
    let mut goodbye = None;
    loop {
        let busy = driver.in_flight() > 0;
        tokio::select! {
            message = inbox.recv(), if goodbye.is_none() => match message {
                Some(Message::Call(transfer, caller)) => {
                    begin(&mut driver.io.connection, &mut waiting, transfer, caller);
                }
                Some(Message::Goodbye(answer)) => goodbye = Some(answer),
                // nobody waits for an answer
                None => break,
            },
            event = driver.next_event_of_task(), if busy || goodbye.is_none() => match event {
                Ok(event) => {
                    hand_out(&mut waiting, event);
                    cancel_dropped(&mut driver.io.connection, &mut waiting);
                }
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
        answer.send(closed.map(|()| Vec::new())).ok();
    }
}

/// Waits until nobody waits for the goodbye.
async fn given_up(goodbye: &mut Option<Answer>) {
    if let Some(answer) = goodbye {
        answer.closed().await;
    }
}

fn begin(connection: &mut Connection, waiting: &mut WaitingCalls, transfer: Transfer, caller: Caller) {
    // dropped before it was sent
    if caller.answer.is_closed() {
        return;
    }
    match connection.begin(None, transfer, Instant::now()) {
        Ok(cookie) => drop(waiting.insert(cookie, caller)),
        Err(error) => drop(caller.answer.send(Err(error))),
    }
}

/// Sends nothing more of calls that were dropped.
fn cancel_dropped(connection: &mut Connection, waiting: &mut WaitingCalls) {
    let dropped = waiting.iter().filter(|(_, caller)| caller.answer.is_closed());
    dropped.for_each(|(&cookie, _)| connection.transfers.cancel(cookie));
}

fn hand_out(waiting: &mut WaitingCalls, event: Event) {
    let cookie = event.cookie();
    let result = match event {
        Event::Read { data, .. } => {
            if let Some(caller) = waiting.get_mut(&cookie) {
                caller.data = data;
            }
            return;
        }
        Event::Done { .. } => Ok(()),
        Event::Failed { error, .. } => Err(error.into()),
        Event::Status { .. } | Event::Drained { .. } => return,
    };
    // one whose call was dropped gets no answer
    if let Some(Caller { answer, data, .. }) = waiting.remove(&cookie) {
        answer.send(result.map(|()| data)).ok();
    }
}

/// The connection is gone: everybody who waits is told why.
fn give_up(
    connection: &Connection,
    waiting: WaitingCalls,
    inbox: &mut mpsc::Receiver<Message>,
    goodbye: Option<Answer>,
    error: &Error,
) {
    inbox.close();
    for (cookie, caller) in waiting {
        // why the server failed a part says more than that it went away then
        let error = connection.transfers.failure(cookie).map_or_else(|| error.clone(), Error::from);
        caller.answer.send(Err(error)).ok();
    }
    let unread = core::iter::from_fn(|| inbox.try_recv().ok()).map(|message| match message {
        Message::Call(_, Caller { answer, .. }) | Message::Goodbye(answer) => answer,
    });
    unread.chain(goodbye).for_each(|answer| drop(answer.send(Err(error.clone()))));
}
