//! A room on a full screen: its workers, what runs and waits there, and the user's own jobs with their
//! losses.
//!
//! | module | what it does |
//! |---|---|
//! | `model` | what is shown, and what keys do |
//! | `draw` | how it looks |
//! | `watching` | follows the user's jobs |
//! | `keys` | reads the keyboard |

mod draw;
mod keys;
mod model;
#[cfg(test)]
mod tests;
mod watching;

use super::display::buffer_rows;
use super::interrupt::Interrupts;
use super::room::Room;
use super::rooms::SavedRooms;
use super::screen::{self, WholeScreen};
use super::{ClientError, Join, or_interrupt};
use crate::config::Config;
use keys::Keyboard;
use model::{Top, TopAction};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::widgets::Widget;
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::ids::{JobId, RoomId};
use sleap_rtc_signaling::client::Roster;
use std::time::Duration;
use watching::Watching;

/// How often times and records of jobs are read anew.
const TICK: Duration = Duration::from_secs(1);

/// Shows the room until the user leaves it. Returns the job that the user wants to attach to.
///
/// Only jobs whose secret is on this machine can be attached to, stopped or cancelled.
pub async fn run(
    config: &Config,
    join: &Join,
    interrupts: &mut Interrupts,
) -> Result<Option<JobId>, ClientError> {
    let joining = Room::visit(config, join.credentials().clone());
    let mut room = or_interrupt(interrupts, joining).await?;
    let done = show(config, join, &mut room, interrupts).await;
    room.leave().await;
    done
}

async fn show(
    config: &Config,
    join: &Join,
    room: &mut Room,
    interrupts: &mut Interrupts,
) -> Result<Option<JobId>, ClientError> {
    let roster = or_interrupt(interrupts, async { Ok(room.roster(None).await?) }).await?;
    let credentials = join.credentials().for_clients();
    let user = super::user(&config.client);
    let top = Top::new(&called(config, &credentials.room_id), &user);
    let mut watching = Watching::new(config, credentials);
    let screen = WholeScreen::take().map_err(ClientError::Terminal)?;
    let drawing = Drawing { screen, top };
    let done = tokio::select! {
        done = drawing.run(roster, &mut watching) => done,
        () = room.drain() => Ok(None),
        _ = interrupts.any() => Ok(None),
    };
    watching.end().await;
    done
}

/// What this user calls the room: its id, if it was not joined by a code.
fn called(config: &Config, room: &RoomId) -> String {
    let saved = SavedRooms::load(&config.client.state_dir).unwrap_or_default();
    let name = saved.iter().find(|saved| saved.credential.room_id == *room);
    name.map_or_else(|| room.to_string(), |saved| saved.name.to_string())
}

/// The screen and what is on it.
struct Drawing {
    screen: WholeScreen,
    top: Top,
}

impl Drawing {
    async fn run(
        mut self,
        mut roster: Roster,
        watching: &mut Watching,
    ) -> Result<Option<JobId>, ClientError> {
        let mut keyboard = Keyboard::open();
        let mut tick = tokio::time::interval(TICK);
        loop {
            self.top.workers = roster.peers().map(WorkerFacts::from_peer).collect();
            self.top.jobs = watching.jobs();
            self.top.now_ms = now_ms();
            while let Some(said) = self.screen.said() {
                self.top.say(&said);
            }
            self.draw();
            let key = tokio::select! {
                changed = roster.changed() => {
                    changed?;
                    continue;
                }
                _ = tick.tick() => {
                    watching.look();
                    continue;
                }
                () = watching.changed() => continue,
                key = keyboard.next() => key,
            };
            // A keyboard that is gone wants nothing more.
            let Some(key) = key else { return Ok(None) };
            match self.top.press(key) {
                Some(TopAction::Quit) => return Ok(None),
                Some(TopAction::Attach(job)) => return Ok(Some(job)),
                Some(TopAction::End(job, ending)) => watching.start(&job, ending),
                None => {}
            }
        }
    }

    fn draw(&mut self) {
        let (width, height) = screen::size();
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        (&self.top).render(buffer.area, &mut buffer);
        self.screen.draw(buffer_rows(&buffer));
    }
}
