//! What a terminal shows of a job and of a room, and what a pipe gets.

use crate::support::*;

/// A worker whose epochs take some time, and a terminal in which it trains two models. `None` without tmux.
fn slow_training(site: &Site, server: &TestServer) -> Option<(TestWorker, TmuxScreen)> {
    let setup = TestWorker::setup(site, "worker").env("FAKE_SLEAP_BATCH_S", "0.3");
    let worker = setup.env("FAKE_SLEAP_STEPS", "3").start(server);
    let client = site.client(server).train(&fixture("train_topdown.zip"));
    let client = client.session(worker.credentials());
    let screen = TmuxScreen::open(site, &client, 80, 24)?;
    Some((worker, screen))
}

#[test]
fn a_training_is_shown_while_it_goes_on_and_what_matters_stays() {
    let site = Site::new();
    let server = site.server();
    let Some((_worker, screen)) = slow_training(&site, &server) else { return };
    screen.wait("validation", A_WHILE);
    screen.wait("epoch 2 of", A_WHILE);
    screen.resize(40, 20);
    screen.wait("centered_instance", A_WHILE);
    screen.resize(100, 30);
    assert_eq!(screen.wait_end(A_WHILE), 0, "{}", screen.history());
    let all = screen.history();
    for words in ["Connected to", "direct, ", "centroid: best", "models/", "In all: took"] {
        assert!(all.contains(words), "no {words:?} in:\n{all}");
    }
    assert!(all.contains("Done: the trained models are in"), "{all}");
    assert!(!all.contains("data_config"), "the configuration is on the screen:\n{all}");
    assert_eq!(screen.fact("cursor_flag"), "1", "the cursor is hidden");
    println!("{all}");
}

#[test]
fn a_terminal_that_is_resized_keeps_every_line_once_and_no_copy_of_the_view() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "0.3");
    let worker = setup.env("FAKE_SLEAP_STEPS", "4");
    let worker = worker.env("FAKE_SLEAP_EPOCHS", "8").start(&server);
    let client = site.client(&server).train(&fixture("train_topdown.zip"));
    let client = client.session(worker.credentials());
    let before = ["what the shell said before", "in two lines"];
    let Some(screen) = TmuxScreen::open_below(&site, &client, 80, 24, &before) else { return };
    screen.wait("epoch 2 of", A_WHILE);
    // Half as wide, twice as wide, lower, higher; at once after each other, and one by one.
    for (columns, lines) in [(40, 20), (100, 30), (60, 16), (45, 24), (44, 22), (120, 40)] {
        screen.resize(columns, lines);
    }
    for (columns, lines) in [(80, 24), (41, 20), (100, 30), (60, 18), (110, 24)] {
        screen.resize(columns, lines);
        wait_for("the view in its new size", A_WHILE, || {
            let shown = screen.text();
            let ends = shown.trim_end().ends_with("Ctrl-C detaches; the job keeps running.");
            let is_over = shown.contains("In all: took");
            (ends || is_over).then_some(())
        });
    }
    assert_eq!(screen.wait_end(A_WHILE), 0, "{}", screen.history());
    let all = screen.history();
    let messages = ["Connected to", "centroid: best", "centered_instance: best", "In all: took"];
    let results = ["Done: the trained models are in"];
    for words in before.iter().chain(&messages).chain(&results) {
        assert_eq!(all.matches(words).count(), 1, "{words:?} in:\n{all}");
    }
    for copied in ["Ctrl-C detaches", "validation", "│", "▁"] {
        assert!(!all.contains(copied), "a copy of the view, {copied:?}, stays in:\n{all}");
    }
}

#[test]
fn ctrl_z_gives_the_terminal_back_and_the_view_returns() {
    let site = Site::new();
    let server = site.server();
    let Some((_worker, screen)) = slow_training(&site, &server) else { return };
    screen.wait("epoch 2 of", A_WHILE);
    screen.press(&["C-z"]);
    wait_for("the end of the view", SOON, || {
        let shown = screen.text();
        (!shown.contains("Ctrl-C detaches") && shown.contains("Connected to")).then_some(())
    });
    screen.resume();
    screen.wait("Ctrl-C detaches", SOON);
    assert_eq!(screen.wait_end(A_WHILE), 0, "{}", screen.history());
    assert_eq!(screen.history().matches("centroid: best").count(), 1, "{}", screen.history());
}

#[test]
fn ctrl_c_leaves_what_was_reached_and_says_how_to_come_back() {
    let site = Site::new();
    let server = site.server();
    let Some((_worker, screen)) = slow_training(&site, &server) else { return };
    screen.wait("epoch 2 of", A_WHILE);
    screen.press(&["C-c"]);
    screen.wait("press Ctrl-C again", SOON);
    assert_eq!(screen.wait_end(SOON), 8, "{}", screen.history());
    let all = screen.history();
    assert!(all.contains("sleap-rtc attach job-") && all.contains("loss"), "{all}");
    // The view itself is gone.
    assert!(!all.contains("Ctrl-C detaches"), "{all}");
    assert_eq!(screen.fact("cursor_flag"), "1", "the cursor is hidden");
}

#[test]
fn top_shows_a_room_with_ones_own_losses_and_stops_a_job() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_EPOCHS", "100000");
    let worker = setup.env("FAKE_SLEAP_BATCH_S", "0.1").start(&server);
    let train = site.client(&server).train(&fixture("train_single.zip"));
    let home = train.home().to_owned();
    let train = train.session(worker.credentials());
    let Some(training) = TmuxScreen::open(&site, &train, 80, 24) else { return };
    training.wait("epoch 2 of", A_WHILE);
    let client = || site.client(&server).in_home(&home).arguments(&["top"]);
    let stranger = site.client(&server).arguments(&["top"]).room(worker.credentials());
    let stranger = TmuxScreen::open(&site, &stranger, 80, 24).unwrap();
    stranger.wait("none that you submitted", A_WHILE);
    stranger.press(&["s", "y", "q"]);
    assert_eq!(stranger.wait_end(SOON), 0, "{}", stranger.history());
    let top = TmuxScreen::open(&site, &client().room(worker.credentials()), 80, 24).unwrap();
    top.wait("train_single", A_WHILE);
    top.wait("validation", A_WHILE);
    assert!(top.text().contains("0 of 1 slots free"), "{}", top.text());
    assert!(top.text().lines().all(|line| line.chars().count() <= 80), "{}", top.text());
    println!("{}", top.text());
    top.press(&["s"]);
    top.wait("early and keep its model?", SOON);
    top.press(&["y"]);
    top.wait("stopped early", A_WHILE);
    assert_eq!(training.wait_end(A_WHILE), 0, "{}", training.history());
    top.press(&["q"]);
    assert_eq!(top.wait_end(SOON), 0, "{}", top.history());
    assert_eq!((top.fact("alternate_on"), top.fact("cursor_flag")), ("0".into(), "1".into()));
    drop((training, stranger, top));
    worker.wait_idle(&site, &server);
}

#[test]
fn top_needs_a_terminal() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let client = site.client(&server).arguments(&["top"]).room(worker.credentials());
    client.run_within(SOON).assert_code(2).assert_says(&["terminal", "sleap-rtc queue"]);
}

#[test]
fn a_pipe_gets_one_line_an_epoch_and_a_dumb_terminal_the_same() {
    let site = Site::new();
    let server = site.server();
    let worker = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_EPOCHS", "4").start(&server);
    let train = || {
        let client = site.client(&server).train(&fixture("train_single.zip"));
        client.session(worker.credentials())
    };
    let piped = train().run();
    piped.assert_code(0).assert_says(&["Started training at", "In all: took", "sent"]);
    let epochs = |text: &str| text.lines().filter(|line| line.starts_with("Epoch ")).count();
    assert_eq!(epochs(&piped.stdout), 4, "{}", piped.stdout);
    assert!(!piped.text().contains("data_config"), "{}", piped.text());
    let whole = train().arguments(&["--log"]).run();
    whole.assert_code(0).assert_says(&["data_config", "Started training at"]);
    let dumb = train().on_terminal().env("TERM", "dumb").run();
    dumb.assert_code(0);
    assert_eq!(epochs(&dumb.text()), 4, "{}", dumb.text());
    assert!(!dumb.text().contains('\u{1b}'), "{}", dumb.text());
}

#[test]
fn a_report_is_one_file_beside_the_models() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let (home, models) = (client.home().to_owned(), client.output());
    client.auto(worker.credentials()).run().assert_code(0);
    let command = |words: &[&str]| site.client(&server).in_home(&home).arguments(words).run();
    let jobs = command(&["jobs"]).stdout;
    let job = jobs.split_whitespace().next().unwrap();
    command(&["report", job]).assert_code(0).assert_says(&[&format!("report-{job}.html")]);
    let html =
        std::fs::read_to_string(models.join(format!("sleap-rtc-report-{job}.html"))).unwrap();
    for part in ["<svg", "<path class=\"loss\" d=\"M", "All settings", "client-train", "succeeded"]
    {
        assert!(html.contains(part), "no {part} in:\n{html}");
    }
    assert!(!html.contains("<script") && !html.contains(worker.credentials().server_token()));
    command(&["report", "job-0000"]).assert_code(2).assert_says(&["not submitted"]);
    std::fs::remove_dir_all(models).unwrap();
    command(&["report", job]).assert_code(2).assert_says(&["sleap-rtc fetch"]);
}
