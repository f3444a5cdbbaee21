//! End-to-end tests: the real binary, real sockets on 127.0.0.1, a stand-in for the trainer.
//!
//! One module for each section of the requirements; `tests/README.md` lists the tests of each
//! requirement. Shared code is in [`support`].

// A test that cannot set up its scene has failed, and the panic names the place.
#![allow(clippy::unwrap_used, clippy::expect_used)]

extern crate support;

mod abuse;
mod bandwidth;
mod busy;
mod cli;
mod cluster;
mod composed_policies;
mod doctor;
mod documentation;
mod estimates;
mod evil;
mod example_policies;
mod explain;
mod first_run;
mod frozen;
mod full_disk;
mod gpus;
mod gui;
mod homes;
mod hooks;
mod hostile;
mod hostile_plugin;
mod island;
mod kill;
mod known_jobs;
mod large;
mod local_users;
mod logs;
mod members;
mod nearby;
mod neighbours;
mod netcheck;
mod network;
mod older;
mod outages;
mod outlive;
mod page;
mod pairing;
mod pictures;
mod plugin;
mod plugin_folder;
mod plugin_projects;
mod python_peers;
mod queue;
mod reach;
mod reality;
mod reconnect;
mod registry;
mod relay;
mod requirements;
mod reservation;
mod resume;
mod roaming;
mod rooms;
mod sandbox;
mod selection;
mod serve;
mod service;
mod serving;
mod shared_storage;
mod simulate;
mod slots;
mod slurm;
mod terminal;
mod tls;
mod track;
mod train;
mod trainers;
mod upgrade;
mod videos;
mod ways;
mod windows;
mod wrong_types;
