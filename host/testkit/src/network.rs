//! A network of its own for servers under test: nodes in network namespaces on one bridge, which can be cut off.
//!
//! Owns namespaces, links and addresses; must not know what runs there. Needs Linux, `ip` and the rights of root. Invariant:
//! what was made is removed when this is dropped, and two networks at the same time do not meet.

use std::{net::Ipv4Addr, process::Command};

/// Nodes on a bridge of this machine, which reaches all of them.
#[derive(Debug)]
pub struct Network {
    /// Tells networks of processes that run at the same time apart.
    tag: String,
    third: (u8, u8),
    nodes: usize,
}

impl Network {
    /// A network with so many nodes.
    ///
    /// # Errors
    /// This machine or user can have none; why.
    pub fn new(nodes: usize) -> Result<Self, String> {
        let id = std::process::id();
        // 10.64.0.0 to 10.127.255.0, one network of 256 addresses each.
        let third = (64 + u8::try_from(id / 256 % 64).unwrap_or(0), u8::try_from(id % 256).unwrap_or(0));
        let network = Self { tag: format!("pf{:x}", id % 0xff_ffff), third, nodes };
        network.make()?;
        Ok(network)
    }

    fn make(&self) -> Result<(), String> {
        let bridge = &self.tag;
        ip(&["link", "add", bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/24", self.at(1)), "dev", bridge])?;
        ip(&["link", "set", bridge, "up"])?;
        for node in 0..self.nodes {
            let (namespace, link, peer) = (self.namespace(node), self.link(node), format!("{}p{node}", self.tag));
            ip(&["netns", "add", &namespace])?;
            ip(&["link", "add", &link, "type", "veth", "peer", "name", &peer])?;
            ip(&["link", "set", &peer, "netns", &namespace])?;
            ip(&["link", "set", &link, "master", bridge, "up"])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", &namespace, "addr", "add", &format!("{}/24", self.address(node)), "dev", &peer])?;
            ip(&["-n", &namespace, "link", "set", &peer, "up"])?;
        }
        Ok(())
    }

    /// Address of a node.
    #[must_use]
    pub fn address(&self, node: usize) -> Ipv4Addr {
        self.at(10 + u8::try_from(node).unwrap_or(u8::MAX - 10))
    }

    /// Name of the namespace of a node.
    #[must_use]
    pub fn namespace(&self, node: usize) -> String {
        format!("{}n{node}", self.tag)
    }

    /// Loses what goes to and from a node, for all others and for this machine.
    ///
    /// # Panics
    /// The link has gone.
    pub fn cut_off(&self, node: usize) {
        self.set(node, "down");
    }

    /// Lets a node be reached again.
    ///
    /// # Panics
    /// The link has gone.
    pub fn join(&self, node: usize) {
        self.set(node, "up");
    }

    fn set(&self, node: usize, state: &str) {
        if let Err(why) = ip(&["link", "set", &self.link(node), state]) {
            panic!("{why}");
        }
    }

    /// Loses what goes from one node to another, and nothing else.
    ///
    /// # Panics
    /// The node has gone.
    pub fn deafen(&self, from: usize, to: usize) {
        self.route("replace", from, to);
    }

    /// Undoes [`Network::deafen`].
    ///
    /// # Panics
    /// The node has gone.
    pub fn hear(&self, from: usize, to: usize) {
        self.route("del", from, to);
    }

    fn route(&self, action: &str, from: usize, to: usize) {
        let to = format!("{}/32", self.address(to));
        if let Err(why) = ip(&["-n", &self.namespace(from), "route", action, "blackhole", &to]) {
            panic!("{why}");
        }
    }

    fn link(&self, node: usize) -> String {
        format!("{}l{node}", self.tag)
    }

    fn at(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.third.0, self.third.1, last)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in 0..self.nodes {
            // What is half made has no namespace yet.
            let _ = ip(&["link", "del", &self.link(node)]);
            let _ = ip(&["netns", "del", &self.namespace(node)]);
        }
        let _ = ip(&["link", "del", &self.tag]);
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let done = Command::new("ip").args(arguments).output();
    let done = done.map_err(|error| format!("`ip`: {error}; install iproute2"))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!("`ip {}`: {}; network namespaces need the rights of root", arguments.join(" "), said.trim()))
}
