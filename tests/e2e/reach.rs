//! Ways to a signaling server: past a dead address, through a proxy, over IPv6; and certificate
//! problems. `sleap-rtc room list` with an unknown room tests both protocols: it signs in over
//! HTTP, and is refused over the WebSocket.

use crate::support::*;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
    time::Instant,
};

/// The server's answer about an unknown room, which shows that both protocols have worked.
pub const ARRIVED: &str = "no such room";

/// The three machines, or nothing with a line that says why.
fn network() -> Option<Network> {
    Network::new()
        .inspect_err(|error| println!("not run: no network namespaces here ({error})"))
        .ok()
}

/// Requests a room at `server`. With `hosts`, names are resolved by that file, which needs a
/// separate mount namespace.
pub fn ask(home: &Path, server: &str, hosts: Option<&str>, variables: &[(&str, &str)]) -> Command {
    let mut command = Site::binary(home, Path::new("/nonexistent"));
    if let Some(hosts) = hosts {
        let file = home.join("hosts");
        std::fs::write(&file, hosts).unwrap();
        let program = command.get_program().to_owned();
        command = with_program(&command, "unshare");
        let script = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(&file).arg(program);
    }
    command.args(["room", "list", "--room-id", "nowhere", "--token", "0", "--signaling", server]);
    command.envs(variables.iter().copied());
    command
}

/// Runs it to its end. Returns the exit code and the output.
pub fn said(command: &mut Command) -> (i32, String) {
    let mut process = Process::start("room list", command);
    let code = process.wait(SOON);
    (code, process.stderr())
}

fn netcheck(home: &Path, server: &str) -> Command {
    let mut command = Site::binary(home, Path::new("/nonexistent"));
    command.args(["netcheck", "--ice-server", "none", "--signaling", server]);
    command
}

/// Runs it to its end. Returns the exit code and the output.
fn printed(command: &mut Command) -> (i32, String) {
    let mut process = Process::start("netcheck", command);
    (process.wait(SOON), process.stdout())
}

/// Gives a machine an IPv6 route that drops everything, because the next hop does not exist.
pub fn lead_ipv6_nowhere(network: &Network, machine: Machine) {
    for arguments in [
        "-6 addr add 2001:db8:77::2/64 dev eth0 nodad",
        "-6 neigh add 2001:db8:77::1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent",
        "-6 route add default via 2001:db8:77::1 dev eth0",
    ] {
        network.ip(machine, arguments).unwrap();
    }
}

#[test]
fn a_dead_ipv6_address_costs_a_quarter_of_a_second() {
    let Some(network) = network() else { return };
    let site = Site::new();
    let server = network.on(Machine::Server, || TestServer::on(&site, network.server_address()));
    lead_ipv6_nowhere(&network, Machine::Client);
    let url = format!("ws://srv.lab:{}", server.address().port());
    let alone = format!("127.0.0.1 localhost\n{} srv.lab\n", network.server_address());
    let both = format!("2001:db8:1::dead srv.lab\n{alone}");
    let took_s = |hosts: &str| {
        let mut command = ask(&site.folder("client"), &url, Some(hosts), &[]);
        let start = Instant::now();
        let (code, said) = network.on(Machine::Client, || said(&mut command));
        assert!(code == 3 && said.contains(ARRIVED), "{code}: {said}");
        start.elapsed().as_secs_f64()
    };
    let (alone_s, both_s) = (took_s(&alone), took_s(&both));
    println!("IPv4 alone: {alone_s:.2} s; beside a dead IPv6 address: {both_s:.2} s");
    // A quarter of a second for each protocol, on a busy machine.
    assert!(both_s < alone_s + 3.0, "{alone_s} s alone, {both_s} s with both");
}

/// A proxy with and without `CONNECT`. Sends the first line of each request to `asked`.
pub fn proxy(listener: TcpListener, asked: mpsc::Sender<String>) {
    for client in listener.incoming().flatten() {
        let asked = asked.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(client.try_clone().unwrap());
            let mut head = String::new();
            while reader.read_line(&mut head).unwrap() > 2 {}
            let first = head.lines().next().unwrap();
            let _ = asked.send(first.to_owned());
            let target = first.split(' ').nth(1).unwrap().trim_start_matches("http://");
            let target: SocketAddr = target.split('/').next().unwrap().parse().unwrap();
            let mut server = TcpStream::connect(target).unwrap();
            let mut client = client;
            match first.starts_with("CONNECT ") {
                true => client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap(),
                false => server.write_all(head.as_bytes()).unwrap(),
            }
            let (back, forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let answers = thread::spawn(move || pipe(back, forth));
            pipe(client, server);
            let _ = answers.join();
        });
    }
}

fn pipe(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[test]
fn where_only_a_proxy_leads_out_both_halves_go_through_it() {
    let Some(network) = network() else { return };
    let site = Site::new();
    // The client has no route to this address.
    network.ip(Machine::Server, "addr add 203.0.113.10/32 dev lo").unwrap();
    let outside: IpAddr = [203, 0, 113, 10].into();
    let server = network.on(Machine::Server, || TestServer::on(&site, outside));
    let (asked, asks) = mpsc::channel();
    let way = network.on(Machine::Server, || {
        let listener = TcpListener::bind((network.server_address(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        // Started here, so that its connections originate from this machine.
        thread::spawn(move || proxy(listener, asked));
        format!("http://{address}")
    });
    let url = format!("ws://{}", server.address());
    let run = |variables: &[(&str, &str)]| {
        let mut command = ask(&site.folder("client"), &url, None, variables);
        network.on(Machine::Client, || said(&mut command))
    };
    let (code, without) = run(&[]);
    assert!(code == 3 && without.contains("cannot reach the signaling server"), "{without}");
    assert!(!without.contains("check that the server is running"), "{without}");
    let (code, through) = run(&[("HTTP_PROXY", &way)]);
    assert!(code == 3 && through.contains(ARRIVED), "{through}");
    let connect = format!("CONNECT {} HTTP/1.1", server.address());
    let requests: Vec<_> = asks.try_iter().collect();
    assert_eq!(requests, [connect.as_str(), connect.as_str()]);
    // The relay is reached the same way, and `netcheck` names the proxy.
    let mut command = netcheck(&site.folder("client"), &url);
    command.env("HTTP_PROXY", &way);
    let (code, checked) = network.on(Machine::Client, || printed(&mut command));
    assert!(code == 0 && checked.contains("(HTTP_PROXY)"), "{checked}");
    assert!(checked.contains("ok    relay"), "{checked}");
    let requests: Vec<_> = asks.try_iter().collect();
    assert!(requests.len() > 3 && requests.iter().all(|asked| *asked == connect), "{requests:?}");
    // An exception in `NO_PROXY` fails without a route, and an unreachable proxy is named.
    let (_, excepted) = run(&[("HTTP_PROXY", &way), ("NO_PROXY", "203.0.113.0/24")]);
    assert!(excepted.contains("no connection to 203.0.113.10"), "{excepted}");
    let (_, wrong) = run(&[("HTTP_PROXY", "http://10.77.0.1:1")]);
    assert!(wrong.contains("http://10.77.0.1:1 (HTTP_PROXY)"), "{wrong}");
    assert!(!wrong.contains("check that the server is running"), "{wrong}");
}

#[test]
fn a_server_with_default_addresses_is_there_over_ipv6_and_ipv4() {
    let Some(network) = network() else { return };
    let site = Site::new();
    for (machine, device, number) in [(Machine::Server, "switch", 1), (Machine::Client, "eth0", 3)]
    {
        network
            .ip(machine, &format!("-6 addr add fd00:77::{number}/64 dev {device} nodad"))
            .unwrap();
    }
    let mut command = Site::binary(&site.folder("server"), Path::new("/nonexistent"));
    command.args(["signaling", "--ephemeral"]);
    let mut server = network.on(Machine::Server, || Process::start("server", &mut command));
    server.wait_stdout("its last address", SOON, |text| text.contains("[::]:8001").then_some(()));
    for url in ["ws://[fd00:77::1]:8080", "ws://10.77.0.1:8080", "http://[fd00:77::1]:8001"] {
        let mut command = ask(&site.folder("client"), url, None, &[]);
        let (code, said) = network.on(Machine::Client, || said(&mut command));
        assert!(code == 3 && said.contains(ARRIVED), "{url}: {said}");
    }
}

#[test]
fn a_server_at_one_of_the_usual_ports_is_found_however_it_is_named() {
    let site = Site::new();
    for (listen, names) in [
        ("127.88.0.1:8080", ["ws://127.88.0.1:8080", "http://127.88.0.1:8080"]),
        ("127.88.0.2:8001", ["http://127.88.0.2:8001", "ws://127.88.0.2:8001"]),
        ("127.88.0.1:8080", ["ws://127.88.0.1", "http://127.88.0.1:8080"]),
    ] {
        let mut command = Site::binary(&site.folder("server"), Path::new("/nonexistent"));
        command.args(["signaling", "--ephemeral", "--listen", listen]);
        let mut server = Process::start("server", &mut command);
        server.wait_stdout("its address", SOON, |text| text.contains(listen).then_some(()));
        for name in names {
            let (code, said) = said(&mut ask(&site.folder("client"), name, None, &[]));
            assert!(code == 3 && said.contains(ARRIVED), "{name}: {said}");
        }
    }
}

/// A certificate and its key in PEM, made as `adjust` says.
fn certificate(folder: &Path, adjust: impl FnOnce(&mut rcgen::CertificateParams)) -> PathBuf {
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    adjust(&mut params);
    let key = rcgen::KeyPair::generate().unwrap();
    let file = folder.join("cert.pem");
    std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    file
}

#[test]
fn problems_of_a_certificate_are_explained_with_their_fix() {
    let site = Site::new();
    let try_with = |adjust: &dyn Fn(&mut rcgen::CertificateParams), trusted: Option<&str>| {
        let folder = site.folder("certificate");
        let file = certificate(&folder, adjust);
        let config = format!(
            "[signaling]\ntls_cert = \"{0}/cert.pem\"\ntls_key = \"{0}/key.pem\"\n",
            folder.display()
        );
        let server = TestServer::configured(&site, [127, 0, 0, 1].into(), &config);
        let url = format!("wss://{}", server.address());
        let file = trusted.map_or(file, |text| {
            std::fs::write(folder.join("other.pem"), text).unwrap();
            folder.join("other.pem")
        });
        let variables = [("SSL_CERT_FILE", file.to_str().unwrap())];
        let mut command = ask(&site.folder("client"), &url, None, &variables);
        (said(&mut command).1, server.transcript())
    };
    let authority = |params: &mut rcgen::CertificateParams| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    };
    // Like the output of `openssl req -x509`.
    let (pinned, _) = try_with(&authority, None);
    assert!(pinned.contains(ARRIVED), "{pinned}");
    let other = certificate(&site.folder("other"), authority);
    let (unknown, _) = try_with(&authority, Some(&std::fs::read_to_string(other).unwrap()));
    assert!(unknown.contains("self-signed") && unknown.contains("SSL_CERT_FILE"), "{unknown}");
    let (garbage, _) = try_with(&authority, Some("garbage"));
    assert!(garbage.contains("SSL_CERT_FILE names") && garbage.contains("other.pem"), "{garbage}");
    let (expired, log) =
        try_with(&|params| params.not_after = rcgen::date_time_ymd(2020, 1, 2), None);
    assert!(expired.contains("expired on 2020-01-02"), "{expired}");
    assert!(log.contains("the certificate has expired"), "{log}");
    let (misnamed, _) = try_with(
        &|params| {
            let name = "other.lab".try_into().unwrap();
            params.subject_alt_names = vec![rcgen::SanType::DnsName(name)];
        },
        None,
    );
    assert!(misnamed.contains("is for other.lab, not for 127.0.0.1"), "{misnamed}");
    for said in [unknown, garbage, expired, misnamed] {
        assert!(!said.contains("check that the server is running"), "{said}");
    }
}
