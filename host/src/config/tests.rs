//! Loads configurations from files and variables, and compares the checked values or the error text.

use super::*;
use proptest::prelude::*;
use sleap_rtc_base::transport::Transport;
use sleap_rtc_policy::OnFailure;
use std::path::Path;

/// A home, a working directory, and no variables.
struct Place {
    dir: tempfile::TempDir,
    sources: Sources,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let (cwd, home) = (dir.path().join("cwd"), dir.path().join("home"));
    std::fs::create_dir_all(&cwd).unwrap();
    std::fs::create_dir_all(home.join(".sleap-rtc")).unwrap();
    let data_dir = Some(home.join("data"));
    Place { dir, sources: Sources { cwd, home: Some(home), data_dir, ..Sources::default() } }
}

impl Place {
    fn in_cwd(&self, text: &str) {
        std::fs::write(self.sources.cwd.join("sleap-rtc.toml"), text).unwrap();
    }

    fn load(&self) -> Config {
        load(&self.sources, Overrides::default()).unwrap()
    }

    /// The text of the error, without the folder.
    fn error(&self, text: &str) -> String {
        self.in_cwd(text);
        let error = load(&self.sources, Overrides::default()).unwrap_err().to_string();
        error.replace(&format!("{}/", self.sources.cwd.display()), "")
    }
}

fn websocket(text: &str, environment: Option<&str>) -> String {
    let mut place = place();
    place.in_cwd(text);
    place.sources.environment = environment.map(str::to_owned);
    place.load().signaling.first().websocket.to_string()
}

#[test]
fn without_a_file_everything_has_a_default() {
    let place = place();
    let config = place.load();
    assert_eq!(config.signaling.first().websocket.as_str(), "ws://localhost:8080/");
    assert_eq!(config.signaling.first().http.as_str(), "http://localhost:8001/");
    assert_eq!(config.worker.state_dir, place.dir.path().join("home/data/sleap-rtc/worker"));
    assert_eq!(config.policy.dir, place.dir.path().join("home/.sleap-rtc/plugins"));
    assert_eq!(config.policy.compatibility[0].on_failure, OnFailure::Refuse);
    assert_eq!(config.policy.selection[0].on_failure, OnFailure::Default);
    assert_eq!(config.ice.servers.len(), 1);
    assert_eq!(config.server.listen.len(), 4);
    assert_eq!((config.file, config.worker.gpus), (None, None));
    assert!(config.warnings.is_empty());
}

#[test]
fn the_working_directory_comes_before_home_and_config_before_both() {
    let mut place = place();
    let home = place.dir.path().join("home/.sleap-rtc/config.toml");
    std::fs::write(&home, "signaling_http = 'http://from-home:8001'").unwrap();
    assert_eq!(place.load().signaling.first().websocket.as_str(), "ws://from-home:8080/");
    assert_eq!(place.load().file, Some(home));
    place.in_cwd("signaling_http = 'http://from-cwd:8001'");
    assert_eq!(place.load().signaling.first().http.as_str(), "http://from-cwd:8001/");
    std::fs::write(place.sources.cwd.join("my.toml"), "signaling_http = 'http://mine:1'").unwrap();
    place.sources.file = Some("my.toml".into());
    assert_eq!(place.load().signaling.first().websocket.as_str(), "ws://mine:1/");
    place.sources.file = Some("absent.toml".into());
    let error = load(&place.sources, Overrides::default()).unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }), "{error}");
}

#[test]
fn more_specific_layers_win_key_by_key() {
    let top = "signaling_websocket = 'ws://top'\n";
    let default = "[default]\nsignaling_websocket = 'ws://default'\n";
    let lab = "[environments.lab]\nsignaling_websocket = 'ws://lab'\n";
    let production = "[environments.production]\nsignaling_websocket = 'ws://production'\n";
    let all = [top, default, lab, production].concat();
    for (text, environment, expected) in [
        (top.to_owned(), None, "top"),
        ([top, default].concat(), None, "default"),
        (all.clone(), Some("lab"), "lab"),
        (all.clone(), Some("LAB"), "lab"),
        (all, None, "production"),
        ([top, default, lab].concat(), None, "default"),
        ([top, default, lab].concat(), Some("absent"), "default"),
    ] {
        let expected = format!("ws://{expected}:8080/");
        assert_eq!(websocket(&text, environment), expected, "{text} {environment:?}");
    }
}

#[test]
fn tables_of_several_layers_merge() {
    let mut place = place();
    place.in_cwd(
        "[worker]\nmax_package = '1 GiB'\ncache = 0\nbwlimit = '20 Mbit/s'\npass_env = ['A']\n[default.worker]\npass_env = ['B']\n\
         [environments.lab.worker]\ngpus = [{ model = 'RTX', memory_mib = 24576 }]\n",
    );
    place.sources.environment = Some("lab".into());
    let worker = place.load().worker;
    assert_eq!((worker.max_package_bytes, worker.cache_bytes), (1 << 30, 0));
    assert_eq!(worker.bwlimit, Some(2_500_000));
    assert_eq!(worker.pass_env, ["B"]);
    assert_eq!(worker.gpus.unwrap()[0].memory_mib, 24576);
}

#[test]
fn operators_can_describe_a_worker() {
    let place = place();
    place.in_cwd(
        "[default.worker.properties]\nowner = 'ada'\nfloor = 3\n\
         [worker]\nproperties = { floor = 4, quiet = true, load = 0.5 }\n",
    );
    let properties = serde_json::Value::from(place.load().worker.properties);
    let expected = serde_json::json!({ "owner": "ada", "floor": 3, "quiet": true, "load": 0.5 });
    assert_eq!(properties, expected);
}

#[test]
fn options_over_environment_over_file() {
    let mut place = place();
    place.in_cwd(
        "signaling_http = 'http://file:8001'\nshared_storage_root = 'shared'\n\
         [client]\npath_map = [['Z:/', 'lab:']]\n",
    );
    let root = Some(place.sources.cwd.join("shared"));
    assert_eq!(place.load().shared_storage_root, root);
    place.sources.signaling_http = Some("http://env:8001".into());
    place.sources.shared_storage_root = Some("/env".into());
    let config = place.load();
    assert_eq!(config.signaling.first().websocket.as_str(), "ws://env:8080/");
    assert_eq!(config.shared_storage_root, Some("/env".into()));
    let overrides = Overrides {
        signaling: Some(Servers::from_texts(&["ws://option:1".to_owned()]).unwrap()),
        ice_servers: Some(Vec::new()),
        transport: Some(Transport::Iroh),
        shared_storage_root: Some("/option".into()),
        state_dir: Some("state".into()),
        maintenance: true,
        bwlimit: Some(7),
        path_map: PathMapping::new("C:/data", "/option").into_iter().collect(),
        whole_log: true,
        notify: true,
        python_worker: true,
        wait: Some(Wait::For(Duration::from_secs(7_200))),
    };
    let config = load(&place.sources, overrides).unwrap();
    assert_eq!(config.client.wait, Some(Wait::For(Duration::from_secs(7_200))));
    assert_eq!(config.signaling.first().http.as_str(), "http://option:1/");
    assert_eq!(config.shared_storage_root, Some("/option".into()));
    assert_eq!(config.worker.state_dir, place.sources.cwd.join("state"));
    assert!(config.ice.servers.is_empty() && config.worker.maintenance);
    assert_eq!((config.client.bwlimit, config.transport), (Some(7), Transport::Iroh));
    let mapped: Vec<_> = config.client.path_map.iter().map(|map| map.to.as_str()).collect();
    assert_eq!(mapped, ["/option", "lab:"]);
}

#[test]
fn a_conflict_between_variable_and_file_is_reported() {
    let mut place = place();
    place.in_cwd("signaling_http = 'http://file:8001'");
    place.sources.signaling_websocket = Some("ws://env:8080".into());
    let config = place.load();
    assert_eq!(config.signaling.first().http.as_str(), "http://file:8001/");
    assert!(config.warnings[0].contains("two different signaling servers"));
    place.sources.signaling_websocket = Some("env".into());
    let error = load(&place.sources, Overrides::default()).unwrap_err().to_string();
    assert!(error.contains("SLEAP_RTC_SIGNALING_WS expects a URL"), "{error}");
}

#[test]
fn several_servers_are_named_in_the_file_or_in_the_environment() {
    let mut place = place();
    let websockets = |place: &Place| -> Vec<String> {
        place.load().signaling.iter().map(|server| server.websocket.to_string()).collect()
    };
    place.in_cwd("signaling_websocket = ['wss://a', 'wss://b', 'wss://c:9']");
    assert_eq!(websockets(&place), ["wss://a/", "wss://b/", "wss://c:9/"]);
    place.in_cwd("signaling_http = ['http://a:1', 'http://b:2']");
    assert_eq!(websockets(&place), ["ws://a:1/", "ws://b:2/"]);
    place.sources.signaling_http = Some("http://c:3, http://d:4,".into());
    assert_eq!(websockets(&place), ["ws://c:3/", "ws://d:4/"]);
    place.sources.signaling_websocket = Some("ws://e:5".into());
    let error = load(&place.sources, Overrides::default()).unwrap_err().to_string();
    assert!(error.contains("1 for WebSockets"), "{error}");
    place.sources = Sources { signaling_http: None, signaling_websocket: None, ..place.sources };
    assert!(place.error("signaling_websocket = []").contains("expects at least one"));
    assert!(place.error("signaling_websocket = ['ws://a', 'b']").contains("expects a URL"));
}

#[test]
fn every_key_is_read() {
    let place = place();
    place.in_cwd(
        r#"
        shared_storage_root = "~/data"
        [signaling]
        listen = ["127.0.0.1:1", "[::1]:2"]
        state = "s.sqlite"
        [ice]
        servers = ["stun:a:1", { urls = ["turn:b"], username = "u", credential = "secret" }]
        bind = ["127.0.0.1", "::1"]
        [worker]
        state_dir = "/w"
        gpus = []
        maintenance = true
        slots = [[0], [1, 2]]
        keep_results = "2 d"
        keep_unfetched = "1 h"
        keep_results_bytes = "1 GiB"
        mounts = [{ label = "Lab Data", path = "~/data" }]
        [client]
        user = "me"
        [policy]
        dir = "plugins"
        [policy.selection]
        plugin = "./mine.wasm"
        settings = { weight = 1.5, names = ["a"], when = 1979-05-27 }
        on_failure = "refuse"
        timeout = "1 s"
        memory = "1.5 MiB"
        [policy.estimate]
        plugin = "named"
        [policy.compatibility]
        plugin = [
            "beside.wasm",
            { name = "office-hours", settings = { owner = "ada" }, on_failure = "default", timeout = "1 s" },
        ]
        "#,
    );
    let config = place.load();
    assert_eq!(config.shared_storage_root, Some(place.dir.path().join("home/data")));
    assert_eq!(config.server.listen[1].to_string(), "[::1]:2");
    assert_eq!(config.server.state, place.sources.cwd.join("s.sqlite"));
    assert_eq!((config.ice.servers.len(), config.ice.bind.len()), (2, 2));
    assert!(!format!("{config:?}").contains("secret"));
    assert_eq!((config.worker.gpus, config.worker.maintenance), (Some(vec![]), true));
    assert_eq!(config.worker.slots, SlotsConfig::Gpus(vec![vec![0], vec![1, 2]]));
    let (keep, keep_unfetched) = (Duration::from_secs(172_800), Duration::from_secs(3600));
    let retention = RetentionConfig { keep, keep_unfetched, bytes: 1 << 30 };
    assert_eq!(config.worker.retention, retention);
    assert_eq!(config.worker.mounts.labels(), ["Lab Data"]);
    assert_eq!(config.client.user.as_deref(), Some("me"));
    assert_eq!(config.policy.dir, place.sources.cwd.join("plugins"));
    let [selection] = &config.policy.selection[..] else { panic!("one plugin") };
    assert!(selection.plugin.as_ref().unwrap().ends_with("cwd/./mine.wasm"));
    assert_eq!(selection.settings["weight"].as_float(), Some(1.5));
    assert_eq!((selection.timeout_ms, selection.memory_mib), (1000, 2));
    assert_eq!(selection.on_failure, OnFailure::Refuse);
    assert_eq!(config.policy.estimate[0].plugin.as_deref(), Some("named"));
    let [beside, hours] = &config.policy.compatibility[..] else { panic!("two plugins") };
    assert!(beside.plugin.as_ref().unwrap().ends_with("cwd/beside.wasm"));
    assert_eq!((beside.on_failure, beside.timeout_ms), (OnFailure::Refuse, 200));
    assert_eq!(hours.plugin.as_deref(), Some("office-hours"));
    assert_eq!(hours.settings["owner"].as_str(), Some("ada"));
    assert_eq!((hours.on_failure, hours.timeout_ms), (OnFailure::Default, 1000));
}

#[test]
fn keys_of_the_python_program_are_one_warning_each() {
    let mut place = place();
    place.in_cwd(
        "[default]\nconnection_timeout = 30\nchunk_size = 65536\n[environments.staging]\n\
         chunk_size = 1\n[worker.io]\nworking_dir = '/mnt'\n[[worker.io.mounts]]\npath = '/a'\n",
    );
    place.sources.environment = Some("staging".into());
    let warnings = place.load().warnings;
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].contains("`connection_timeout` is a setting of the Python"));
    place.sources.environment = Some("stagin".into());
    let warnings = place.load().warnings;
    assert!(warnings.last().unwrap().contains("no section [environments.stagin]"), "{warnings:?}");
}

#[test]
fn mistakes_name_file_line_and_the_nearest_key() {
    let place = place();
    let texts = [
        "a = 1",
        "\n\nsignalling_http = 'x'",
        "[worker]\ngpu = []",
        "[environments.other.policy.selection]\nplugins = 'x'",
        "signaling_http = 5",
        "signaling_http = 'ws://a'",
        "signaling_websocket = ['ws://a', 1]",
        "[worker]\ngpus = [\n  { model = 'a', memory_mib = 1 },\n  { model = 'b' },\n]",
        "[worker]\ngpus = [{ model = 'a', memory_mib = -1 }]",
        "[worker]\nmax_package = '50 gigs'",
        "[worker]\nslots = 0",
        "[worker]\nslots = [[0], 1]",
        "[worker]\nslots = [[0], [-1]]",
        "[worker]\nproperties = 'lab'",
        "[worker]\nmounts = [{ path = '/lab' }]",
        "[worker]\nmounts = [{ label = 'a:b', path = '/lab' }]",
        "[client]\npath_map = [['Z:/']]",
        "[client]\npath_map = ['Z:/=/lab']",
        "[worker]\nproperties = { status = 'mine' }",
        "[worker.properties]\nfloor = 3\nhours = [9, 17]",
        "[ice]\nservers = ['turn:relay']",
        "[ice]\nservers = [{ urls = 'turn:r', username = 'u', credential = 123456 }]",
        "[ice]\nbind = ['eth0']",
        "[ice]\ntransport = 'quic'",
        "[ice]\nservers = [{ urls = 'turn:r', secret = 's' }]",
        "[signaling]\nice_servers = [{ urls = 'stun:r', secret = 's' }]",
        "[signaling]\nice_servers = [{ urls = 'turn:r', secret = 's', username = 'u' }]",
        "[signaling]\nice_servers = [{ urls = 'turn:r' }]",
        "[signaling]\nice_lifetime = '1 s'",
        "[signaling]\ntls_cert = 'chain.pem'",
        "[signaling]\ntls_key = 'key.pem'",
        "[signaling]\ncluster = 'http://broker'",
        "[signaling]\ncluster = ['nats://me:hunter2@broker:99999']",
        "[signaling]\ncluster_token_file = 'token'",
        "[signaling.limits]\nframe = '2 MiB'",
        "[signaling.limits]\nroom_peers = 0",
        "[signaling.limits]\nregister_within = '1 d'",
        "[signaling.limits]\nnestings = 9",
        "[policy.estimate]\non_failure = 'ignore'\n",
        "[policy.selection]\nplugin = 7",
        "[policy.selection]\nplugin = []",
        "[policy.selection]\nplugin = ['a', 7]",
        "[policy.selection]\nplugin = [\n  'a',\n  { nam = 'b' },\n]",
        "[policy.selection]\nplugin = ['a', { settings = {} }]",
        "[policy.selection]\nplugin = ['a', { name = 'b', timeout = 'soon' }]",
        "[policy.compatibility]\nplugin = ['a', 'b']\ntimeout = '1 s'",
        "[client]\nuser = 1",
        "default = 1",
        "worker = 1",
        "environments = { lab = 1 }",
        "credential = 'hunter2",
        "n = 99999999999999999999",
    ];
    let all: Vec<String> = texts.iter().map(|text| place.error(text)).collect();
    insta::assert_snapshot!(all.join("\n"));
}

/// The commented-out settings of `text`, for the keys that `find` selects.
fn in_force<'t>(text: &'t str, find: impl Fn(&'t str) -> Option<&'t str>) -> String {
    text.lines().map(|line| find(line).unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_examples_show_the_defaults_as_they_are() {
    for text in [
        include_str!("../../../examples/worker.toml"),
        include_str!("../../../examples/signaling.toml"),
    ] {
        let mut place = place();
        place.sources.data_dir = place.sources.home.as_ref().map(|home| home.join(".local/share"));
        // Written out, a default counts as the user's choice of a server; all else is the same.
        let loaded = |place: &Place| {
            format!("{:#?}", Config { file: None, names_server: false, ..place.load() })
        };
        let defaults = loaded(&place);
        place.in_cwd(text);
        assert_eq!(loaded(&place), defaults);
        // `#key = value` is a default, `# text` is for people.
        let key = |line: &'static str| line.strip_prefix('#').filter(|key| !key.starts_with(' '));
        place.in_cwd(&in_force(text, key));
        assert_eq!(loaded(&place), defaults);
        place.in_cwd(&in_force(text, |line| line.strip_prefix("# e.g. ")));
        assert!(place.load().warnings.is_empty());
    }
}

#[test]
fn a_server_of_several_is_configured() {
    let place = place();
    place.in_cwd(include_str!("../../../examples/signaling-cluster.toml"));
    let cluster = place.load().server.cluster.unwrap();
    assert_eq!(
        (cluster.brokers.len(), cluster.brokers[0].as_str()),
        (3, "nats://broker-a.lab:4222")
    );
    assert_eq!(cluster.token_file, Some("/etc/sleap-rtc/cluster-token".into()));
    place.in_cwd("[signaling]\ncluster = 'nats://me:hunter2@broker'\n");
    let config = place.load();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_worker_of_a_cluster_is_configured_and_its_mistakes_are_found() {
    let place = place();
    place.in_cwd(include_str!("../../../examples/slurm.toml"));
    let worker = place.load().worker;
    assert_eq!(worker.executor, ExecutorConfig::Slurm);
    let SlurmConfig { gres, time_factor, options, .. } = worker.slurm;
    assert_eq!((gres.as_deref(), time_factor), (Some("gpu:1"), Some(2.0)));
    let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(options, [option("cpus-per-task", "8"), option("mem", "32G")]);
    for (text, expected) in [
        ("executor = 'pbs'", "expects \"local\" or \"slurm\""),
        ("slurm.options = { wrap = 'x' }", "is none of the options that may be set: comment,"),
        ("slurm.partition = 'a b'", "expects a word"),
        ("slurm.environment = [\"a\\nb\"]", "expects one line for each element"),
        ("slurm.time_factor = 0.5", "expects 1.0 to 100.0"),
    ] {
        let error = place.error(&format!("[worker]\n{text}\n"));
        assert!(error.contains(expected), "{error}");
    }
}

proptest! {
    #[test]
    fn no_file_can_make_it_panic(text in "\\PC{0,200}|[\\[\\]a-z=.\"'{},0-9\n -]{0,200}") {
        let _ = file::read(Path::new("f"), &text, None);
    }

    #[test]
    fn no_value_can_make_it_panic(
        key in prop::sample::select(vec![
            "signaling_http", "signaling_websocket", "worker.gpus", "worker.max_package", "worker.slots", "ice.servers", "ice.bind",
            "signaling.ice_servers", "signaling.ice_lifetime", "ice.from_signaling",
            "policy.selection.settings", "policy.selection.timeout", "policy.estimate.plugin", "signaling.listen", "default",
            "environments", "worker", "environments.x.ice", "client.user",
        ]),
        value in prop::sample::select(vec![
            "1", "-1", "1e400", "nan", "true", "''", "'x'", "[]", "[[]]", "[1]", "['']", "{}",
            "{ a = 1 }", "[{}]", "[{ urls = [] }]", "1979-05-27", "'1e300 TB'", "'ä€ ms'",
            "0xffff_ffff_ffff_ffff_f", "1_000", "'http://[::1'",
        ]),
    ) {
        let _ = file::read(Path::new("f"), &format!("{key} = {value}"), Some("x"));
    }
}
