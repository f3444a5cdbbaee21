//! Three machines on one: network namespaces for a worker and for a client, joined by a switch in a
//! third, where the signaling server runs. Any of the two cables can be pulled, the switch can filter, and
//! each of the two machines can have a router with address translation before it.
//!
//! Needs root, network namespaces, iproute2 and nftables; [`Network::new`] says what is missing.

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd,
    process::{Command, Output},
};

/// The switch, and the server's address on it.
const SWITCH: &str = "switch";
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Whose machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Machine {
    Server,
    Worker,
    Client,
}

impl Machine {
    /// The switch's end of this machine's cable.
    fn port(self) -> &'static str {
        match self {
            Self::Server => SWITCH,
            Self::Worker => "to-worker",
            Self::Client => "to-client",
        }
    }
}

/// A network namespace: gone when this is dropped and the last process in it has ended.
struct Netns(File);

impl Netns {
    /// A new one with nothing but its loopback. The calling thread stays where it is.
    fn new() -> io::Result<Self> {
        let before = Self::current()?;
        #[expect(unsafe_code, reason = "there is no other way to a namespace of our own")]
        // SAFETY: nothing but the thread's network namespace changes; no descriptor is unshared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        let new = Self::current();
        before.enter()?;
        let new = new?;
        new.ip("link set lo up")?;
        Ok(new)
    }

    /// That of the calling thread.
    fn current() -> io::Result<Self> {
        File::open("/proc/thread-self/ns/net").map(Self)
    }

    fn enter(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    /// Does `work` with the calling thread in this namespace: the sockets that it opens, the threads
    /// and the processes that it starts stay there.
    fn within<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        let before = Self::current()?;
        self.enter()?;
        let done = work();
        before.enter()?;
        Ok(done)
    }

    /// Runs `ip ARGUMENTS` in this namespace.
    fn ip(&self, arguments: &str) -> io::Result<()> {
        let done = self.within(|| Command::new("ip").args(arguments.split(' ')).output())?;
        checked(done, &format!("ip {arguments}"))
    }

    /// Runs `nft COMMANDS` in this namespace.
    fn nft(&self, commands: &str) -> io::Result<()> {
        let done = self.within(|| Command::new("nft").arg(commands).output())?;
        checked(done, &format!("nft {commands}"))
    }

    /// Moves an interface from here to another namespace. `ip` names a namespace by a process or thread in
    /// it, and a thread of ours is there for the time of the call.
    fn hand_over(&self, interface: &str, to: &Self) -> io::Result<()> {
        let (say, entered) = std::sync::mpsc::sync_channel(1);
        let (done, over) = std::sync::mpsc::sync_channel::<()>(1);
        std::thread::scope(|scope| {
            let there = scope.spawn(move || {
                let thread = to.enter().map(|()| rustix::thread::gettid());
                let _ = say.send(thread);
                let _ = over.recv();
            });
            let thread = entered.recv().map_err(io::Error::other)??;
            let id = thread.as_raw_nonzero();
            let moved = self.ip(&format!("link set {interface} netns {id}"));
            drop(done);
            let _ = there.join();
            moved
        })
    }

    /// Sets a kernel parameter of this namespace.
    fn set(&self, parameter: &str, value: &str) -> io::Result<()> {
        self.within(|| std::fs::write(format!("/proc/sys/net/{parameter}"), value))?
    }
}

fn checked(done: io::Result<Output>, command: &str) -> io::Result<()> {
    let done = done.map_err(|error| io::Error::other(format!("`{command}`: {error}")))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(io::Error::other(format!("`{command}`: {said}")))
}

/// How a router translates addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// A machine's port outside is the one that it has inside, whomever it talks to.
    SamePort,
    /// A port outside for each other side, by chance.
    Symmetric,
}

/// What a router does: `eth0` is its outside.
fn translation(nat: Nat) -> String {
    let how = if nat == Nat::Symmetric { " fully-random" } else { "" };
    let asked_for = "ct state established,related accept";
    format!(
        "table ip router {{\n\
         chain out {{\ntype nat hook postrouting priority 100;\noifname eth0 masquerade{how}\n}}\n\
         chain in {{\ntype filter hook input priority 0;\n{asked_for}\niifname eth0 drop\n}}\n\
         chain through {{\ntype filter hook forward priority 0;\n{asked_for}\niifname eth0 drop\n}}\n\
         }}"
    )
}

/// One machine that has nothing but its loopback.
pub struct Island(Netns);

impl Island {
    /// A new one.
    pub fn new() -> io::Result<Self> {
        Netns::new().map(Self)
    }

    /// Does `work` there, as [`Network::on`] does.
    ///
    /// # Panics
    /// When the thread cannot enter the namespace, which it could before.
    pub fn on<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.within(work).unwrap_or_else(|error| panic!("on the island: {error}"))
    }
}

/// The three machines.
pub struct Network {
    server: Netns,
    worker: Netns,
    client: Netns,
    /// Those before worker and client.
    routers: Vec<Netns>,
}

impl Network {
    /// A network with both cables plugged in.
    pub fn new() -> io::Result<Self> {
        let network = Self::unplugged()?;
        for (machine, number) in [(Machine::Worker, 2), (Machine::Client, 3)] {
            network.plug_in(network.of(machine), machine.port(), number)?;
        }
        Ok(network)
    }

    /// A network in which worker and client are behind a router each, which translates their addresses
    /// and lets in what they have asked for.
    pub fn behind_routers(nat: Nat) -> io::Result<Self> {
        let mut network = Self::unplugged()?;
        for (machine, number) in [(Machine::Worker, 2), (Machine::Client, 3)] {
            let (router, inside) = (Netns::new()?, network.of(machine));
            network.plug_in(&router, machine.port(), number)?;
            inside.ip("link add eth0 type veth peer name inside")?;
            inside.hand_over("inside", &router)?;
            router.ip(&format!("addr add 192.168.{number}.1/24 dev inside"))?;
            router.ip("link set inside up")?;
            inside.ip(&format!("addr add 192.168.{number}.2/24 dev eth0"))?;
            inside.ip("link set eth0 up")?;
            inside.ip(&format!("route add default via 192.168.{number}.1"))?;
            router.set("ipv4/ip_forward", "1")?;
            router.nft(&translation(nat))?;
            network.routers.push(router);
        }
        Ok(network)
    }

    fn unplugged() -> io::Result<Self> {
        checked(Command::new("nft").arg("--version").output(), "nft --version")?;
        let (server, worker, client) = (Netns::new()?, Netns::new()?, Netns::new()?);
        let network = Self { server, worker, client, routers: Vec::new() };
        let switch = &network.server;
        switch.ip(&format!("link add {SWITCH} type bridge"))?;
        switch.ip(&format!("addr add {SERVER}/24 dev {SWITCH}"))?;
        switch.ip(&format!("link set {SWITCH} up"))?;
        Ok(network)
    }

    /// Joins `end` to the switch, with an address by this number.
    fn plug_in(&self, end: &Netns, port: &str, number: u8) -> io::Result<()> {
        let switch = &self.server;
        // Made in the end's namespace, from where the switch's end is handed over.
        end.ip(&format!("link add eth0 type veth peer name {port}"))?;
        end.hand_over(port, switch)?;
        switch.ip(&format!("link set {port} master {SWITCH}"))?;
        switch.ip(&format!("link set {port} up"))?;
        end.ip(&format!("addr add 10.77.0.{number}/24 dev eth0"))?;
        end.ip("link set eth0 up")
    }

    /// Drops UDP on the switch, between all machines, as some firewalls do.
    pub fn block_udp(&self) -> io::Result<()> {
        self.filter("ip protocol udp drop; ip6 nexthdr udp drop")
    }

    /// Drops all that a machine sends to anything but this TCP port, and all that is sent to it from
    /// elsewhere.
    pub fn allow_only(&self, machine: Machine, port: u16) -> io::Result<()> {
        let at = machine.port();
        self.filter(&format!(
            "iifname {at} ether type ip tcp dport != {port} drop; iifname {at} ip protocol udp drop; \
             oifname {at} ip protocol udp drop"
        ))
    }

    /// Lets the switch pass everything again.
    pub fn unblock(&self) -> io::Result<()> {
        self.server.nft("delete table bridge firewall")
    }

    /// Has the switch apply `rules` to all that it passes, or takes for the server.
    fn filter(&self, rules: &str) -> io::Result<()> {
        let chains = ["forward", "input", "output"].map(|hook| {
            let rules = rules.replace("; ", "\n");
            format!("chain {hook} {{ type filter hook {hook} priority 0;\n{rules}\n }}\n")
        });
        self.server.nft(&format!("table bridge firewall {{\n{} }}", chains.concat()))
    }

    fn of(&self, machine: Machine) -> &Netns {
        match machine {
            Machine::Server => &self.server,
            Machine::Worker => &self.worker,
            Machine::Client => &self.client,
        }
    }

    /// The address at which both others reach the server's machine.
    pub fn server_address(&self) -> IpAddr {
        SERVER.into()
    }

    /// Does `work` on a machine: the sockets that it opens, the threads and the processes that it
    /// starts stay there.
    ///
    /// # Panics
    /// When the thread cannot enter the namespace, which it could before.
    pub fn on<T>(&self, machine: Machine, work: impl FnOnce() -> T) -> T {
        self.of(machine).within(work).unwrap_or_else(|error| panic!("on {machine:?}: {error}"))
    }

    /// Runs `ip ARGUMENTS` on a machine: addresses and routes beside the usual ones.
    pub fn ip(&self, machine: Machine, arguments: &str) -> io::Result<()> {
        self.of(machine).ip(arguments)
    }

    /// Pulls the cable of a machine: nothing comes through, and nobody is told. The server's own
    /// takes both others from it and from each other.
    pub fn cut(&self, machine: Machine) -> io::Result<()> {
        self.server.ip(&format!("link set {} down", machine.port()))
    }

    /// Lets worker and client reach the server, but no longer each other.
    pub fn separate(&self) -> io::Result<()> {
        [Machine::Worker, Machine::Client].iter().try_for_each(|machine| {
            self.server.ip(&format!("link set {} type bridge_slave isolated on", machine.port()))
        })
    }

    /// Gives a machine `count` more interfaces with an address each, as containers do.
    pub fn add_interfaces(&self, machine: Machine, count: u8) -> io::Result<()> {
        let (end, net) = (self.of(machine), if machine == Machine::Worker { 20 } else { 21 });
        (0..count).try_for_each(|n| {
            end.ip(&format!("link add x{n} type veth peer name y{n}"))?;
            end.ip(&format!("addr add 172.{net}.{n}.1/24 dev x{n}"))?;
            end.ip(&format!("link set x{n} up"))?;
            end.ip(&format!("link set y{n} up"))
        })
    }

    /// Lets the interface of a machine carry packets of so many bytes, and no more.
    pub fn carry(&self, machine: Machine, bytes: u32) -> io::Result<()> {
        self.of(machine).ip(&format!("link set eth0 mtu {bytes}"))?;
        self.server.ip(&format!("link set {} mtu {bytes}", machine.port()))
    }

    /// Lets what is between the routers carry packets of so many bytes, and no more.
    #[allow(dead_code, reason = "the torture has no routers")]
    pub fn narrow(&self, bytes: u32) -> io::Result<()> {
        for machine in [Machine::Worker, Machine::Client] {
            self.server.ip(&format!("link set {} mtu {bytes}", machine.port()))?;
        }
        self.routers.iter().try_for_each(|router| router.ip(&format!("link set eth0 mtu {bytes}")))
    }

    /// Takes all IPv4 addresses away and gives unique local ones of IPv6, without a default route and
    /// with the usual rule against addresses of documentation. Returns the server's.
    pub fn without_ipv4(&self) -> io::Result<IpAddr> {
        let ends =
            [(&self.server, SWITCH, 1), (&self.worker, "eth0", 2), (&self.client, "eth0", 3)];
        for (end, interface, number) in ends {
            end.ip(&format!("-4 addr flush dev {interface}"))?;
            end.ip(&format!("-6 addr add fd00:77::{number}/64 dev {interface} nodad"))?;
            end.ip("-6 route add unreachable 2001:db8::/32")?;
        }
        Ok(IpAddr::from([0xfd00, 0x77, 0, 0, 0, 0, 0, 1]))
    }

    /// Plugs the cable in again.
    pub fn mend(&self, machine: Machine) -> io::Result<()> {
        self.server.ip(&format!("link set {} up", machine.port()))
    }
}
