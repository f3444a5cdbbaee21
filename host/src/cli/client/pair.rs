//! `sleap-rtc pair`: this device becomes a member of a room, by a code that its worker shows.

use super::common::CommonArgs;
use super::environment::Environment;
use super::exit::{Exit, ExitWith, Failure};
use super::print;
use crate::client;
use crate::client::rooms::SavedRooms;
use crate::config::{Config, Overrides};
use crate::device;
use crate::pairing::{self, PairError, device_name};
use sleap_rtc_trust::certificate::MemberRole;
use sleap_rtc_trust::pairing::{Code, Introduction, JoinError};

/// The examples under `pair --help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  Join the room of the worker that shows this code:
    sleap-rtc pair 4-harbor-violin
  The same, with the code typed at a prompt:
    sleap-rtc pair
  Then train there, without a room id and a token:
    sleap-rtc client-train --auto-select --pkg-path labels.pkg.zip";

/// The options of `pair`.
#[derive(clap::Args)]
pub struct PairArgs {
    /// The code that the worker shows: a number and two words [default: the first line of standard input]
    #[arg(value_name = "CODE", num_args = 1..)]
    code: Vec<String>,
    #[command(flatten)]
    common: CommonArgs,
}

/// A code, read.
#[derive(Debug)]
pub struct PairOptions {
    code: Code,
}

impl PairArgs {
    pub(crate) fn check(
        self,
        environment: &mut Environment,
    ) -> Result<(PairOptions, Overrides), Failure> {
        let text = match self.code.is_empty() {
            true => environment.read_secret("Code: ", "CODE", "a pairing code")?,
            false => self.code.join(" "),
        };
        let code = text.trim().parse()?;
        Ok((PairOptions { code }, self.common.check()?))
    }
}

impl From<PairError> for Failure {
    fn from(error: PairError) -> Self {
        let exit = match &error {
            PairError::Join(JoinError::Role { .. }) => Exit::Refused,
            _ => Exit::Connect,
        };
        Self { hint: error.advice(), ..Self::new(exit, error) }
    }
}

/// Pairs, and saves the room.
pub(crate) async fn run(options: &PairOptions, config: &Config) -> Result<Exit, Failure> {
    let folder = &config.client.state_dir;
    // Before the code is spent: a folder that cannot be used, or a damaged file.
    SavedRooms::change(folder, |_| Ok(())).await?;
    let introduction = Introduction {
        device: device::key(folder).id(),
        name: device_name(Some(&client::user(&config.client))),
        role: MemberRole::Client,
    };
    let (grant, words) = pairing::join(&config.signaling, &options.code, &introduction).await?;
    let worker = grant.worker_name.clone();
    let servers = &config.signaling;
    client::rooms::believe(folder, &grant);
    let name = SavedRooms::change(folder, |rooms| Ok(rooms.add(grant, servers))).await?;
    let text = format!(
        "Paired with room \"{name}\" (worker {worker}). Verify if you like: {words}\n\
         To train there:  sleap-rtc client-train --room {name} --auto-select --pkg-path PACKAGE"
    );
    print::line(&text).exit(Exit::Unexpected)?;
    Ok(Exit::Success)
}
