//! An agent instance that is connected to its host: carries out the outputs of its session over the connection.

use bytes::Bytes;
use switchboard_core::agent::AgentExit;
use switchboard_runtime::AgentControl;
use tokio::{sync::mpsc, time::Instant};

use super::{
    feed::{Feed, FeedEnd},
    feed_handle::FeedHandle,
    find,
    starter::HostStarter,
};
use crate::{
    exec::{
        ports::{ControlSource, RecordSink},
        process::{Owned, until},
        read_mode::ReadMode,
    },
    host::{
        directory::HostDirectory,
        protocol::{CommandHead, ToHost},
    },
    session::{Input, Output, Session, gone},
};

pub(super) type Feeding<S> = Owned<(Feed<S>, FeedEnd)>;

/// An agent instance that is connected to its host.
pub(super) struct ConnectedInstance<'a> {
    pub(super) agent: &'a HostStarter,
    pub(super) directory: HostDirectory,
    pub(super) session: Session,
    pub(super) feed: FeedHandle,
    pub(super) messages: mpsc::UnboundedSender<Bytes>,
    pub(super) _writer: Owned<()>,
}

impl ConnectedInstance<'_> {
    pub(super) async fn serve<O: ControlSource, S: RecordSink>(
        mut self,
        mut control: O,
        mut feeding: Feeding<S>,
        mut input: Option<Input>,
    ) -> AgentExit {
        loop {
            let progress = *self.feed.progressed.borrow_and_update();
            if progress.caught_up {
                self.session.caught_up();
            }
            self.handle(input.take().unwrap_or(Input::Progress { published: progress.sent }));
            while let Some(output) = self.session.poll_output() {
                match output {
                    Output::Command { head, bytes } => self.command(head, bytes),
                    Output::Idle => self.say(&ToHost::Idle),
                    Output::Stop => return self.stop(control, feeding).await,
                    Output::Retire { holds_prompt } => {
                        let exit = self.retire(feeding).await;
                        return if holds_prompt { exit.unprompted() } else { exit };
                    }
                    Output::End(end) => {
                        let exit = self.agent.agent.exit(end);
                        return self.terminate(feeding, exit).await;
                    }
                }
            }
            tokio::select! {
                biased;
                _ = self.feed.progressed.changed() => {}
                message = control.next() => match message {
                    AgentControl::Stop => match find::after_stop(&mut control).await {
                        Some(AgentControl::Stop) => {
                            // The gateway is shutting down; the next gateway takes the host over.
                            drop((self, feeding));
                            return std::future::pending().await;
                        }
                        Some(AgentControl::Kill) => return self.terminate(feeding, AgentExit::Stopped).await,
                        // A stopped agent gets no more commands.
                        Some(AgentControl::Command(_)) | None => input = Some(self.stopping()),
                    },
                    AgentControl::Kill => return self.terminate(feeding, AgentExit::Stopped).await,
                    AgentControl::Command(command) => input = Some(Input::Command(command)),
                },
                ended = &mut feeding.0 => return match ended {
                    Ok((feed, end)) => self.lost(feed, end).await,
                    Err(_) => gone("agent_crashed", "The agent's records could not be decoded."),
                },
                () = until(self.session.deadline()) => {}
            }
        }
    }

    /// The input for a stop. The events of a stopped agent are no longer wanted.
    pub(super) fn stopping(&self) -> Input {
        self.feed.mode.send_replace(ReadMode::Discard);
        Input::Stop
    }

    pub(super) fn handle(&mut self, input: Input) {
        self.session.handle(Instant::now(), input, &mut self.feed.decoder());
    }

    /// Sends a message to the host.
    pub(super) fn say(&self, message: &ToHost) {
        // If the host is gone, the feed reports it.
        let _ = self.messages.send(message.encode());
    }

    fn command(&self, head: CommandHead, bytes: Bytes) {
        let mut awaited = self.feed.awaited();
        self.say(&awaited.command(head, bytes));
    }
}
