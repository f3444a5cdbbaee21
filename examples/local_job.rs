//! Runs server, worker and client in one process, as the three commands do.
//!
//! `cargo run --example local_job -- PACKAGE OUTPUT` trains a package that SLEAP exported with the
//! `sleap-nn` on `PATH`, and puts the models into a folder.

use anyhow::{Context, Result, bail};
use sleap_rtc::client::interrupt::Interrupts;
use sleap_rtc::client::package::{self, TrainingPackage};
use sleap_rtc::client::videos::VideoSearch;
use sleap_rtc::client::{self, Job, Join, Output, ReadProgress, SubmitOptions};
use sleap_rtc::config::{self, Config, Overrides, Sources};
use sleap_rtc::worker::{self, WorkerOptions, WorkerRoom};
use sleap_rtc_protocol::job::{JobType, Requirements};
use sleap_rtc_signaling::client::Endpoints;
use sleap_rtc_signaling::server::{self, ServerOptions};
use sleap_rtc_signaling::store::Store;
use sleap_rtc_transfer::Hashes;
use sleap_rtc_trust::session::SessionString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

fn main() -> Result<ExitCode> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    // A worker starts its own program as `survey-gpus`, as `run-job DIR` for each job, and that as
    // `confine …` for each trainer. In this example, all of them are this program.
    let own = ["confine", "run-job", "survey-gpus"].map(Path::new);
    if arguments.first().is_some_and(|first| own.contains(&first.as_path())) {
        return Ok(sleap_rtc::cli::main(std::env::args_os()));
    }
    let [package, output] = &arguments[..] else { bail!("usage: local_job PACKAGE OUTPUT") };
    let job = job(package, output)?;
    let models = tokio::runtime::Runtime::new()?.block_on(run(job))?;
    println!("trained models are in {}", models.display());
    Ok(ExitCode::SUCCESS)
}

/// The package, with its description for policies.
fn job(path: &Path, output: &Path) -> Result<Job> {
    let package = TrainingPackage { path: path.into(), inference: true };
    let package =
        package.open(VideoSearch::default(), &Hashes::none(), &ReadProgress::default())?;
    let (demands, user) = (Requirements::default(), None);
    let description = package::describe_package(&package, JobType::Training, demands, user);
    let output = Output::Models(output.to_owned());
    let (shared, name) = (None, "local".into());
    Ok(Job {
        package,
        shared,
        skips_inference: false,
        name,
        description,
        output,
        command: Vec::new(),
    })
}

async fn run(job: Job) -> Result<PathBuf> {
    let folder = tempfile::tempdir()?;
    let (stop_server, stop_worker) = (CancellationToken::new(), CancellationToken::new());

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let config = configuration(folder.path(), listener.local_addr()?)?;
    let (store, serving) = (Store::ephemeral()?, ServerOptions::default());
    let server = server::run(vec![listener], store, serving, stop_server.clone());
    let server = tokio::spawn(server);

    let credentials = folder.path().join("credentials");
    let (room, file) = (WorkerRoom::New, Some(credentials.clone()));
    let options = WorkerOptions { room, credentials_file: file, drain: false, served_at: None };
    let mut worker = tokio::spawn(worker::run(config.clone(), options, stop_worker.clone()));

    let session = tokio::select! {
        ended = &mut worker => bail!("the worker did not start: {:?}", ended?),
        session = session_string(&credentials) => session?,
    };
    let options = SubmitOptions { join: Join::Session(session), viewer: None, wait: None };
    let models = client::run(&config, options, job, Interrupts::never()).await;

    stop_worker.cancel();
    worker.await??;
    stop_server.cancel();
    server.await??;
    Ok(models?)
}

/// The defaults, on loopback, with all files in `folder`.
fn configuration(folder: &Path, server: SocketAddr) -> Result<Config> {
    let sources = Sources { cwd: folder.to_owned(), ..Sources::default() };
    let signaling = Endpoints::from_one(&format!("ws://{server}")).map_err(anyhow::Error::msg)?;
    let overrides = Overrides {
        signaling: Some(signaling.into()),
        ice_servers: Some(Vec::new()),
        ..Overrides::default()
    };
    Ok(config::load(&sources, overrides)?)
}

/// The session string, which a worker writes to a file once it has joined its room.
async fn session_string(credentials: &Path) -> Result<SessionString> {
    loop {
        if let Ok(text) = std::fs::read_to_string(credentials) {
            let word = text.split_whitespace().find(|word| word.starts_with("sleap-session:"));
            return Ok(word.context("no session string in the credentials")?.parse()?);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
