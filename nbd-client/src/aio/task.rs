//! The task of a connection that many handles share: calls in, answers out.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};

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

/// The sender of the answer to a call.
pub(super) type Answer = oneshot::Sender<Result<Vec<u8>, Error>>;

/// The task's side of all handles: their messages, and the calls that wait for an answer.
pub(super) struct Callers {
    waiting: BTreeMap<Cookie, Caller>,
    inbox: mpsc::Receiver<Message>,
    goodbye: Option<Answer>,
}

impl Drop for Callers {
    /// A panic of a stream, or a runtime that ends.
    fn drop(&mut self) {
        self.tell_all(&Error::of_lost_worker());
    }
}

impl Callers {
    pub(super) const fn new(inbox: mpsc::Receiver<Message>) -> Self {
        Self { waiting: BTreeMap::new(), inbox, goodbye: None }
    }

    /// The task: takes calls, moves bytes, hands answers out, until nobody can call any more, the
    /// goodbye is asked for and all is answered, or the connection fails. `dropped` is notified of
    /// each call that is dropped.
    pub(super) async fn drive<S>(mut self, mut driver: Driver<S>, dropped: Arc<Notify>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut ended = self.serve(&mut driver, &dropped).await;
        if ended.is_ok() {
            ended = driver.io.say_goodbye().await;
        }
        self.end(&driver.io.connection, ended);
    }

    async fn serve<S>(&mut self, driver: &mut Driver<S>, dropped: &Notify) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            // a goodbye whose call was dropped does not end the connection
            self.goodbye.take_if(|answer| answer.is_closed());
            if self.goodbye.is_some() && driver.io.connection.is_idle() {
                return Ok(());
            }
            tokio::select! {
                // the task learns of dropped calls before the connection asks for more
                biased;
                () = dropped.notified() => self.cancel_dropped(&mut driver.io.connection),
                message = self.inbox.recv(), if self.goodbye.is_none() => match message {
                    Some(Message::Call(transfer, caller)) => {
                        self.begin(&mut driver.io.connection, transfer, caller);
                    }
                    Some(Message::Goodbye(answer)) => self.goodbye = Some(answer),
                    // nobody waits for an answer
                    None => return Ok(()),
                },
                event = driver.step() => {
                    if let Some(event) = event? {
                        self.hand_out(event);
                    }
                }
            }
        }
    }

    fn begin(&mut self, connection: &mut Connection, transfer: Transfer, caller: Caller) {
        // dropped before it was sent
        if caller.answer.is_closed() {
            return;
        }
        match connection.begin(None, transfer, Instant::now()) {
            Ok(cookie) => drop(self.waiting.insert(cookie, caller)),
            Err(error) => drop(caller.answer.send(Err(error))),
        }
    }

    /// Asks for nothing more of calls that were dropped.
    fn cancel_dropped(&self, connection: &mut Connection) {
        let dropped = self.waiting.iter().filter(|(_, caller)| caller.answer.is_closed());
        dropped.for_each(|(&cookie, _)| connection.transfers.cancel(cookie));
    }

    fn hand_out(&mut self, event: Event) {
        let cookie = event.cookie();
        let result = match event {
            Event::Read { data, .. } => {
                if let Some(caller) = self.waiting.get_mut(&cookie) {
                    caller.data = data;
                }
                return;
            }
            Event::Done { .. } => Ok(()),
            Event::Failed { error, .. } => Err(error.into()),
            Event::Status { .. } | Event::Drained { .. } => return,
        };
        // a dropped call gets no answer
        if let Some(Caller { answer, data, .. }) = self.waiting.remove(&cookie) {
            answer.send(result.map(|()| data)).ok();
        }
    }

    /// The connection was closed or is lost: everybody who waits is told.
    fn end(&mut self, connection: &Connection, ended: Result<(), Error>) {
        // before anyone is told, who may call again at once
        self.inbox.close();
        // the failure of a part says more than the loss that followed
        for (cookie, error) in connection.transfers.failures() {
            if let Some(caller) = self.waiting.remove(&cookie) {
                caller.answer.send(Err(error.into())).ok();
            }
        }
        let error = ended.as_ref().err().unwrap_or(&Error::GivenUp).clone();
        if let Some(answer) = self.goodbye.take() {
            answer.send(ended.map(|()| Vec::new())).ok();
        }
        self.tell_all(&error);
    }

    fn tell_all(&mut self, error: &Error) {
        self.inbox.close();
        let waiting = core::mem::take(&mut self.waiting).into_values().map(|caller| caller.answer);
        let unread = core::iter::from_fn(|| self.inbox.try_recv().ok()).map(|message| match message {
            Message::Call(_, Caller { answer, .. }) | Message::Goodbye(answer) => answer,
        });
        waiting
            .chain(unread)
            .chain(self.goodbye.take())
            .for_each(|answer| drop(answer.send(Err(error.clone()))));
    }
}
