//! What is asked for on the command line.

use std::collections::BTreeSet;

use crate::cases;
use crate::peers::PEERS;

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) scenarios: Vec<String>,
    pub(crate) peers: Vec<String>,
    pub(crate) json: bool,
    pub(crate) losses: bool,
    pub(crate) charts: String,
}

impl Options {
    /// `None` if help was asked for and given.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self { charts: "target/lab".to_owned(), ..Self::default() };
        while let Some(arg) = args.next() {
            let (name, inline) = match arg.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (arg, None),
            };
            let mut value =
                || inline.clone().or_else(|| args.next()).ok_or(format!("{name} needs a value; see --help"));
            match name.as_str() {
                "--help" | "-h" => {
                    print!("{}", help());
                    return Ok(None);
                }
                "--json" => options.json = true,
                "--losses" => options.losses = true,
                "--scenario" | "-s" => options.scenarios.push(known(value()?, scenarios())?),
                "--peer" | "-p" => options.peers.push(known(value()?, peers())?),
                "--charts" => options.charts = value()?,
                _ => return Err(format!("unknown option `{name}`; see --help")),
            }
        }
        Ok(Some(options))
    }

    pub(crate) fn wants_scenario(&self, name: &str) -> bool {
        self.scenarios.is_empty() || self.scenarios.iter().any(|wanted| wanted == name)
    }

    pub(crate) fn wants_peer(&self, name: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|wanted| wanted == name)
    }

    /// Whether every scenario is run, so that goals can be judged.
    pub(crate) fn is_whole(&self) -> bool {
        self.scenarios.is_empty()
    }

    /// Whether progress would only be in the way.
    pub(crate) fn quiet(&self) -> bool {
        !std::io::IsTerminal::is_terminal(&std::io::stderr())
    }
}

fn scenarios() -> BTreeSet<&'static str> {
    cases::cases().iter().map(|case| case.name).collect()
}

fn peers() -> BTreeSet<&'static str> {
    PEERS.iter().map(|peer| peer.name).collect()
}

fn known(name: String, names: BTreeSet<&'static str>) -> Result<String, String> {
    match names.contains(name.as_str()) {
        true => Ok(name),
        false => Err(format!("no `{name}`; there are {}", names.into_iter().collect::<Vec<_>>().join(", "))),
    }
}

fn help() -> String {
    let mut help = String::from(
        "The lab: Tidegate and what people use instead, in scenarios of a provider whose limits move.\n\n\
         Usage: lab [--scenario NAME]… [--peer NAME]… [--json] [--charts FOLDER]\n\
         \x20      lab --losses [--scenario NAME]…\n\n\
         \x20 -s, --scenario NAME  only this one; may be given more than once\n\
         \x20 -p, --peer NAME      only this one; may be given more than once\n\
         \x20     --json           figures as JSON, shares from 0 to 1, times in seconds\n\
         \x20     --losses         why Tidegate got less than the oracle: the places it left unused, by cause, and\n\
         \x20                      what can be had without knowing the future\n\
         \x20     --charts FOLDER  where charts go [default: target/lab]\n\nScenarios:\n",
    );
    for case in cases::cases() {
        help += &format!("  {:<16} {}\n", case.name, case.about);
    }
    help += "\nPeers:\n";
    for peer in &PEERS {
        help += &format!("  {:<16} {}\n", peer.name, peer.about);
    }
    help
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Option<Options>, String> {
        Options::parse(args.iter().map(|arg| (*arg).to_owned()))
    }

    #[test]
    fn options_are_read_in_both_forms() {
        let options = parse(&["--scenario", "step", "-s=dip", "--peer=tide", "--json"]).unwrap().unwrap();
        assert_eq!((options.scenarios.len(), options.peers.len(), options.json), (2, 1, true));
        assert!(options.wants_scenario("dip") && !options.wants_scenario("walk") && !options.wants_peer("oai"));
    }

    #[test]
    fn what_does_not_exist_is_refused_with_what_does() {
        assert!(parse(&["--scenario", "stpe"]).unwrap_err().contains("step, "));
        assert!(parse(&["--peer", "me"]).unwrap_err().contains("tide"));
        assert!(parse(&["--fast"]).unwrap_err().contains("--fast"));
        assert!(parse(&["--peer"]).unwrap_err().contains("needs a value"));
    }
}
