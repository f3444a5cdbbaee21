//! Three machines on one: network namespaces for a worker and a client, joined by a switch in a third
//! namespace, in which the signaling server runs. Tests can pull each of the two cables, filter on the
//! switch, and put a router with address translation in front of either machine.
//!
//! Needs root, network namespaces, iproute2 and nftables. [`Network::new`] reports what is missing.

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd,
    process::{Command, Output},
};

/// The switch's interface, and the server's address on it.
const SWITCH: &str = "switch";
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// One of the machines.
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

/// A network namespace. It ends when the value is dropped and its last process has ended.
struct Netns(File);

impl Netns {
    /// Creates a namespace with only its loopback. The calling thread stays in its own namespace.
    fn new() -> io::Result<Self> {
        let before = Self::current()?;
        #[expect(unsafe_code, reason = "no safe function creates a network namespace")]
        // SAFETY: only the thread's network namespace changes. No descriptor is unshared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        let new = Self::current();
        before.enter()?;
        let new = new?;
        new.ip("link set lo up")?;
        Ok(new)
    }

    /// The namespace of the calling thread.
    fn current() -> io::Result<Self> {
        File::open("/proc/thread-self/ns/net").map(Self)
    }

    fn enter(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    /// Runs `work` with the calling thread in this namespace. The sockets that it opens, and the
    /// threads and processes that it starts, stay there.
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

    /// Moves an interface from this namespace to another. `ip` identifies a namespace by a process
    /// or thread in it, so one of our threads stays there during the call.
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
    /// A machine keeps its port on the outside, for every destination.
    SamePort,
    /// Each destination sees a different random port.
    Symmetric,
}

/// The rules of a router, whose outside interface is `eth0`.
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

/// A machine with only its loopback.
pub struct Island(Netns);

impl Island {
    /// A machine without any cable.
    pub fn new() -> io::Result<Self> {
        Netns::new().map(Self)
    }

    /// Runs `work` there, as [`Network::on`] does.
    ///
    /// # Panics
    ///
    /// Panics if the thread cannot enter the namespace.
    pub fn on<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.within(work).unwrap_or_else(|error| panic!("on the island: {error}"))
    }
}

/// The three machines.
pub struct Network {
    server: Netns,
    worker: Netns,
    client: Netns,
    /// The routers in front of worker and client.
    routers: Vec<Netns>,
}

impl Network {
    /// A network with both cables connected.
    pub fn new() -> io::Result<Self> {
        let network = Self::unplugged()?;
        for (machine, number) in [(Machine::Worker, 2), (Machine::Client, 3)] {
            network.plug_in(network.of(machine), machine.port(), number)?;
        }
        Ok(network)
    }

    /// A network in which worker and client each have a router that translates addresses and admits
    /// only answers.
    pub fn behind_routers(nat: Nat) -> io::Result<Self> {
        let network = Self::routed()?;
        network.routers.iter().try_for_each(|router| router.nft(&translation(nat)))?;
        Ok(network)
    }

    /// A network in which worker and client each have a router that forwards everything.
    #[allow(dead_code, reason = "the torture has no routers")]
    pub fn with_routers() -> io::Result<Self> {
        let network = Self::routed()?;
        for (router, far) in network.routers.iter().zip([3, 2]) {
            let route = format!("route add 192.168.{far}.0/24 via 10.77.0.{far}");
            [router, &network.server].iter().try_for_each(|from| from.ip(&route))?;
        }
        Ok(network)
    }

    /// A router each for worker and client, in this order.
    fn routed() -> io::Result<Self> {
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

    /// Connects `end` to the switch, with an address that ends in `number`.
    fn plug_in(&self, end: &Netns, port: &str, number: u8) -> io::Result<()> {
        let switch = &self.server;
        // Created in the end's namespace; the switch's end is then moved to the switch.
        end.ip(&format!("link add eth0 type veth peer name {port}"))?;
        end.hand_over(port, switch)?;
        switch.ip(&format!("link set {port} master {SWITCH}"))?;
        switch.ip(&format!("link set {port} up"))?;
        end.ip(&format!("addr add 10.77.0.{number}/24 dev eth0"))?;
        end.ip("link set eth0 up")
    }

    /// Drops UDP on the switch between all machines, as some firewalls do.
    pub fn block_udp(&self) -> io::Result<()> {
        self.filter("ip protocol udp drop; ip6 nexthdr udp drop")
    }

    /// Drops everything that a machine sends to other ports than this TCP port, and everything that
    /// it receives from other ports.
    pub fn allow_only(&self, machine: Machine, port: u16) -> io::Result<()> {
        let at = machine.port();
        self.filter(&format!(
            "iifname {at} ether type ip tcp dport != {port} drop; iifname {at} ip protocol udp drop; \
             oifname {at} ip protocol udp drop"
        ))
    }

    /// Removes all filters from the switch.
    pub fn unblock(&self) -> io::Result<()> {
        self.server.nft("delete table bridge firewall")
    }

    /// Applies `rules` to everything that the switch forwards or that is for the server.
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

    /// The address at which both machines reach the server.
    pub fn server_address(&self) -> IpAddr {
        SERVER.into()
    }

    /// Runs `work` on a machine. The sockets that it opens, and the threads and processes that it
    /// starts, stay there.
    ///
    /// # Panics
    ///
    /// Panics if the thread cannot enter the namespace.
    pub fn on<T>(&self, machine: Machine, work: impl FnOnce() -> T) -> T {
        self.of(machine).within(work).unwrap_or_else(|error| panic!("on {machine:?}: {error}"))
    }

    /// Runs `ip ARGUMENTS` on a machine, for further addresses and routes.
    pub fn ip(&self, machine: Machine, arguments: &str) -> io::Result<()> {
        self.of(machine).ip(arguments)
    }

    /// Pulls the cable of a machine: packets are lost without notice. Without the server's cable,
    /// worker and client reach neither it nor each other.
    pub fn cut(&self, machine: Machine) -> io::Result<()> {
        self.server.ip(&format!("link set {} down", machine.port()))
    }

    /// Lets worker and client reach the server, but not each other.
    pub fn separate(&self) -> io::Result<()> {
        [Machine::Worker, Machine::Client].iter().try_for_each(|machine| {
            self.server.ip(&format!("link set {} type bridge_slave isolated on", machine.port()))
        })
    }

    /// Adds `count` interfaces with an address each to a machine, as containers do.
    pub fn add_interfaces(&self, machine: Machine, count: u8) -> io::Result<()> {
        let (end, net) = (self.of(machine), if machine == Machine::Worker { 20 } else { 21 });
        (0..count).try_for_each(|n| {
            end.ip(&format!("link add x{n} type veth peer name y{n}"))?;
            end.ip(&format!("addr add 172.{net}.{n}.1/24 dev x{n}"))?;
            end.ip(&format!("link set x{n} up"))?;
            end.ip(&format!("link set y{n} up"))
        })
    }

    /// Gives a machine another interface, with an address that ends in `number`.
    #[allow(dead_code, reason = "the torture's machines stay where they are")]
    pub fn second_cable(&self, machine: Machine, number: u8) -> io::Result<()> {
        let (end, port) = (self.of(machine), "second");
        end.ip(&format!("link add eth1 type veth peer name {port}"))?;
        end.hand_over(port, &self.server)?;
        self.server.ip(&format!("link set {port} master {SWITCH}"))?;
        self.server.ip(&format!("link set {port} up"))?;
        end.ip(&format!("addr add 10.77.0.{number}/24 dev eth1"))?;
        end.ip("link set eth1 up")
    }

    /// Limits the packets of a machine's interface to `bytes`.
    pub fn carry(&self, machine: Machine, bytes: u32) -> io::Result<()> {
        self.of(machine).ip(&format!("link set eth0 mtu {bytes}"))?;
        self.server.ip(&format!("link set {} mtu {bytes}", machine.port()))
    }

    /// Limits the packets between the routers to `bytes`.
    #[allow(dead_code, reason = "the torture has no routers")]
    pub fn narrow(&self, bytes: u32) -> io::Result<()> {
        for machine in [Machine::Worker, Machine::Client] {
            self.server.ip(&format!("link set {} mtu {bytes}", machine.port()))?;
        }
        self.routers.iter().try_for_each(|router| router.ip(&format!("link set eth0 mtu {bytes}")))
    }

    /// Replaces all IPv4 addresses by those of [`Self::add_ipv6`]. Returns the server's address.
    pub fn without_ipv4(&self) -> io::Result<IpAddr> {
        for (end, interface, _) in self.interfaces() {
            end.ip(&format!("-4 addr flush dev {interface}"))?;
        }
        self.add_ipv6()?;
        Ok(IpAddr::from([0xfd00, 0x77, 0, 0, 0, 0, 0, 1]))
    }

    /// Adds unique local addresses of IPv6, without a default route and with the usual rule against
    /// addresses for documentation.
    pub fn add_ipv6(&self) -> io::Result<()> {
        for (end, interface, number) in self.interfaces() {
            end.ip(&format!("-6 addr add fd00:77::{number}/64 dev {interface} nodad"))?;
            end.ip("-6 route add unreachable 2001:db8::/32")?;
        }
        Ok(())
    }

    /// Each machine's interface, and the number at the end of its addresses.
    fn interfaces(&self) -> [(&Netns, &'static str, u8); 3] {
        [(&self.server, SWITCH, 1), (&self.worker, "eth0", 2), (&self.client, "eth0", 3)]
    }

    /// Connects the cable again.
    pub fn mend(&self, machine: Machine) -> io::Result<()> {
        self.server.ip(&format!("link set {} up", machine.port()))
    }
}
