//! A network of one client's own: a namespace behind a virtual cable, with losses if wanted.
//! Needs root, `ip` and `nft`.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result, bail};

/// A namespace with one interface. The machine itself is at [`Namespace::host`], the other end of
/// the cable. Dropping it removes both.
pub struct Namespace {
    name: String,
    host: Ipv4Addr,
    inside: Ipv4Addr,
}

static NEXT: AtomicU8 = AtomicU8::new(0);

impl Namespace {
    /// Makes a namespace that reaches this machine and nothing else.
    ///
    /// # Errors
    /// If this process may not (it takes root), or `ip` is not installed.
    pub fn new() -> Result<Namespace> {
        // Tests run in processes of their own, and each may have several.
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let name = format!("fm{process}-{serial}");
        // 10.128.0.0/9, a /30 per namespace: unlikely to be in use, and different per process.
        let net = 10 << 24 | 1 << 23 | (process.wrapping_mul(8) + u32::from(serial % 8)) << 2;
        let net = net & 0x0aff_fffc;
        let (host, inside) = (Ipv4Addr::from(net | 1), Ipv4Addr::from(net | 2));
        run("ip", &["netns", "add", &name])
            .context("network namespaces need root and the iproute2 package")?;
        let namespace = Namespace { name, host, inside };
        namespace.connect()?;
        Ok(namespace)
    }

    fn connect(&self) -> Result<()> {
        let Namespace { name, host, inside } = self;
        let (outer, inner) = (format!("{name}h"), "eth0");
        run(
            "ip",
            &[
                "link", "add", &outer, "type", "veth", "peer", "name", inner, "netns", name,
            ],
        )?;
        run("ip", &["addr", "add", &format!("{host}/30"), "dev", &outer])?;
        run("ip", &["link", "set", &outer, "up"])?;
        run(
            "ip",
            &[
                "-n",
                name,
                "addr",
                "add",
                &format!("{inside}/30"),
                "dev",
                inner,
            ],
        )?;
        run("ip", &["-n", name, "link", "set", inner, "up"])?;
        run("ip", &["-n", name, "link", "set", "lo", "up"])?;
        // Browsers find their address by asking for the route to the world.
        run(
            "ip",
            &[
                "-n",
                name,
                "route",
                "add",
                "default",
                "via",
                &host.to_string(),
            ],
        )
    }

    /// The name for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// This machine's address as seen from inside.
    pub fn host(&self) -> Ipv4Addr {
        self.host
    }

    /// The client's address.
    pub fn inside(&self) -> Ipv4Addr {
        self.inside
    }

    /// From now on loses this percentage of UDP packets, at random: `to_client` of those that
    /// arrive inside, `from_client` of those that leave. Replaces what was set before.
    ///
    /// # Errors
    /// If `nft` is not installed.
    pub fn lose_percent(&self, to_client: u8, from_client: u8) -> Result<()> {
        let Namespace { name, .. } = self;
        // Each direction loses where it arrives: a drop where it leaves is an error to the sender.
        let inside = loss_rules("loss", "input", "eth0", to_client);
        let outside = loss_rules(
            &format!("loss_{}", self.table()),
            "prerouting",
            &format!("{name}h"),
            from_client,
        );
        run_nft(&["ip", "netns", "exec", name, "nft"], &inside)?;
        run_nft(&["nft"], &outside)
    }

    /// From now on lets the client have so many kilobits a second, and has what does not fit wait for
    /// 300 ms at most; `None`: as many as there are.
    ///
    /// # Errors
    /// If `tc` is not installed, or the kernel has no token bucket.
    pub fn limit_kbit(&self, rate: Option<u32>) -> Result<()> {
        let outer = format!("{}h", self.name);
        let Some(rate) = rate else {
            return run("tc", &["qdisc", "del", "dev", &outer, "root"]);
        };
        let rate = format!("{rate}kbit");
        // A bucket of two packets: trains are cut and spread as a slow link does it.
        let line = "qdisc replace dev DEVICE root tbf rate RATE burst 3200 latency 300ms";
        let words = line.split(' ').map(|word| match word {
            "DEVICE" => &outer,
            "RATE" => rate.as_str(),
            word => word,
        });
        run("tc", &words.collect::<Vec<_>>())
    }

    /// Pulls the cable: nothing gets in or out until [`Namespace::reconnect`], and nobody is told.
    ///
    /// # Errors
    /// If `nft` is not installed.
    pub fn disconnect(&self) -> Result<()> {
        let outer = format!("{}h", self.name);
        let rules = |table: &str, interface: &str| {
            let clear = no_table(table);
            format!(
                "{clear}table inet {table} {{\n\
                 chain lose {{\n\
                 type filter hook prerouting priority 0;\n\
                 iifname \"{interface}\" drop\n\
                 }}\n}}\n"
            )
        };
        let inside = rules("loss", "eth0");
        run_nft(&["ip", "netns", "exec", &self.name, "nft"], &inside)?;
        run_nft(&["nft"], &rules(&format!("loss_{}", self.table()), &outer))
    }

    /// Ends all losses.
    ///
    /// # Errors
    /// If `nft` is not installed.
    pub fn reconnect(&self) -> Result<()> {
        run_nft(
            &["ip", "netns", "exec", &self.name, "nft"],
            &no_table("loss"),
        )?;
        run_nft(&["nft"], &no_table(&format!("loss_{}", self.table())))
    }

    /// The namespace's name as part of an identifier of nftables.
    fn table(&self) -> String {
        self.name.replace('-', "_")
    }

    /// Gives the client another address, as when it walks from one network into another.
    ///
    /// # Errors
    /// If `ip` refuses.
    pub fn move_client(&mut self) -> Result<()> {
        let net = u32::from(self.host) & !3;
        // One step on in the same /30 block is taken by the machine; use the block's sibling.
        let moved = Ipv4Addr::from((net ^ 0x0040_0000) | 2);
        let host = Ipv4Addr::from(u32::from(moved) & !3 | 1);
        let outer = format!("{}h", self.name);
        run("ip", &["addr", "add", &format!("{host}/30"), "dev", &outer])?;
        run("ip", &["-n", &self.name, "addr", "flush", "dev", "eth0"])?;
        run(
            "ip",
            &[
                "-n",
                &self.name,
                "addr",
                "add",
                &format!("{moved}/30"),
                "dev",
                "eth0",
            ],
        )?;
        run(
            "ip",
            &[
                "-n",
                &self.name,
                "route",
                "add",
                "default",
                "via",
                &host.to_string(),
            ],
        )?;
        self.inside = moved;
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Removes the cable too; nothing can be done about a failure here.
        let _ = run_nft(&["nft"], &no_table(&format!("loss_{}", self.table())));
        let _ = run("ip", &["link", "del", &format!("{}h", self.name)]);
        let _ = run("ip", &["netns", "del", &self.name]);
    }
}

/// Adding before deleting makes it right whether or not the table was there.
fn no_table(table: &str) -> String {
    format!("add table inet {table}\ndelete table inet {table}\n")
}

fn loss_rules(table: &str, hook: &str, interface: &str, percent: u8) -> String {
    let clear = no_table(table);
    format!(
        "{clear}table inet {table} {{\n\
         chain lose {{\n\
         type filter hook {hook} priority 0;\n\
         iifname \"{interface}\" meta l4proto udp numgen random mod 100 < {percent} drop\n\
         }}\n}}\n"
    )
}

fn run_nft(program: &[&str], rules: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), rules)?;
    let path = file.path().to_string_lossy();
    run(program[0], &[&program[1..], &["-f", &path]].concat())
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let line = format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| line.clone())?;
    if !output.status.success() {
        bail!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
