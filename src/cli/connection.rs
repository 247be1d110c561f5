//! Where requests go and with which key, checked before anything is sent.

use std::ffi::OsString;
use std::fmt;

use url::Url;

use crate::caller::Endpoint;

/// DeepSeek's API (<https://api-docs.deepseek.com/>).
const DEEPSEEK: &str = "https://api.deepseek.com";

/// A key. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Key {
    /// A key that the simulator takes.
    pub(crate) fn simulated() -> Self {
        Self("sk-simulated".to_owned())
    }

    /// The key itself, for a header.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What a client is built from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Connection {
    pub(crate) base_url: Url,
    /// `None` for servers that want none.
    pub(crate) key: Option<Key>,
    /// The environment variable where it was looked for.
    pub(crate) key_name: String,
    /// Whether it is DeepSeek itself, or its simulation: then its prices hold.
    pub(crate) deepseek: bool,
}

/// Holds the key for DeepSeek.
pub(crate) const DEEPSEEK_KEY: &str = "DEEPSEEK_API_KEY";
/// Holds the key for what `--base-url` names.
const OTHER_KEY: &str = "OPENAI_API_KEY";
/// Holds another address of DeepSeek's API, for this program as for the clients.
const DEEPSEEK_URL: &str = "DEEPSEEK_BASE_URL";

/// Why there is no connection.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("there is no key: set {0}, or try without one against a simulated API whose limit moves: add --simulate")]
    NoKey(String),
    #[error("the key in {0} has {1} in it; a key is one word of visible ASCII characters")]
    BadKey(String, &'static str),
    #[error("{given} {url:?}: {problem}")]
    BadUrl { given: &'static str, url: String, problem: String },
}

impl Connection {
    /// From the arguments and the environment `env`.
    ///
    /// DeepSeek's key comes from `DEEPSEEK_API_KEY` and is sent to no other host than that of `DEEPSEEK_BASE_URL`. Hosts
    /// that `base_url` names get `OPENAI_API_KEY`, or no key if that is not set, as servers of one's own often want none.
    /// `key_name` overrules both, and must be set.
    pub(crate) fn new(
        base_url: Option<&str>,
        key_name: Option<&str>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConnectionError> {
        let by_env = env(DEEPSEEK_URL).map(|url| url.to_string_lossy().trim().to_owned()).filter(|url| !url.is_empty());
        let (given, url) = match (base_url, &by_env) {
            (Some(url), _) => ("--base-url", url),
            (None, Some(url)) => (DEEPSEEK_URL, url.as_str()),
            (None, None) => ("", DEEPSEEK),
        };
        let base_url = parse(url).map_err(|problem| {
            let url = without_password(url);
            ConnectionError::BadUrl { given, url, problem }
        })?;
        let host = base_url.host_str().unwrap_or_default();
        let deepseek = host == "deepseek.com" || host.ends_with(".deepseek.com");
        let name = key_name.unwrap_or(if deepseek || given == DEEPSEEK_URL { DEEPSEEK_KEY } else { OTHER_KEY });
        let key = match env(name) {
            Some(value) if !value.is_empty() => Some(check_key(name, value)?),
            _ if deepseek || key_name.is_some() => return Err(ConnectionError::NoKey(name.to_owned())),
            _ => None,
        };
        Ok(Self { base_url, key, key_name: name.to_owned(), deepseek })
    }
}

/// A base URL, or what is wrong with it.
fn parse(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| match error {
        url::ParseError::RelativeUrlWithoutBase => format!("expected a URL such as {DEEPSEEK}"),
        error => error.to_string(),
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("expected http or https, got {0}; write http://… or https://…", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a name or password does not belong here; the key comes from the environment".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("expected no ? and no #: requests add their path to it".to_owned());
    }
    let path = url.path().trim_end_matches('/');
    if let Some(endpoint) = Endpoint::ALL.map(Endpoint::path).into_iter().find(|endpoint| path.ends_with(endpoint)) {
        return Err(format!("expected it without {endpoint}: requests add their path to it"));
    }
    Ok(url)
}

/// For messages: what stands before an `@` may be a secret.
fn without_password(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => text.to_owned(),
    }
}

fn check_key(name: &str, value: OsString) -> Result<Key, ConnectionError> {
    let bad = |what| ConnectionError::BadKey(name.to_owned(), what);
    let key = value.into_string().map_err(|_| bad("bytes that are no text"))?;
    for character in key.chars() {
        match character {
            '\r' | '\n' => return Err(bad("a line break")),
            ' ' | '\t' => return Err(bad("a blank")),
            '!'..='~' => {}
            _ => return Err(bad("a character that can't be sent")),
        }
    }
    Ok(Key(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(url: Option<&str>, key_name: Option<&str>, env: &[(&str, &str)]) -> Result<Connection, ConnectionError> {
        let find = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Connection::new(url, key_name, find)
    }

    #[test]
    fn without_a_key_the_simulation_is_offered() {
        for env in [&[][..], &[("DEEPSEEK_API_KEY", "")], &[("OPENAI_API_KEY", "sk-o")]] {
            let error = connect(None, None, env).unwrap_err();
            assert_eq!(error, ConnectionError::NoKey("DEEPSEEK_API_KEY".to_owned()));
            assert!(error.to_string().contains("--simulate"));
        }
    }

    #[test]
    fn each_host_gets_its_own_key_only() {
        let env = [("DEEPSEEK_API_KEY", "sk-d"), ("OPENAI_API_KEY", "sk-o"), ("MINE", "sk-m")];
        let key = |url, name| connect(url, name, &env).unwrap().key.map(|key| key.expose().to_owned());
        assert_eq!(key(None, None).as_deref(), Some("sk-d"));
        assert_eq!(key(Some("https://API.deepseek.com/beta"), None).as_deref(), Some("sk-d"));
        assert_eq!(key(Some("https://deepseek.com.example/v1"), None).as_deref(), Some("sk-o"));
        assert_eq!(key(Some("http://127.0.0.1:8080/v1"), Some("MINE")).as_deref(), Some("sk-m"));
        assert_eq!(connect(Some("http://localhost:8080/v1"), None, &[]).unwrap().key, None);
        assert!(connect(Some("http://localhost/v1"), Some("MINE"), &[]).is_err());
    }

    #[test]
    fn the_address_in_the_environment_gets_deepseeks_key_and_an_argument_overrules_it() {
        let env = [("DEEPSEEK_API_KEY", "sk-d"), ("OPENAI_API_KEY", "sk-o"), ("DEEPSEEK_BASE_URL", " http://host:1 ")];
        let told = |url, env: &[_]| {
            let connection = connect(url, None, env).unwrap();
            (connection.base_url.to_string(), connection.key.map(|key| key.expose().to_owned()), connection.key_name)
        };
        let told_of = |url: &str, key: Option<&str>, name: &str| (url.into(), key.map(str::to_owned), name.into());
        assert_eq!(told(None, &env), told_of("http://host:1/", Some("sk-d"), "DEEPSEEK_API_KEY"));
        assert_eq!(told(None, &env[1..]), told_of("http://host:1/", None, "DEEPSEEK_API_KEY"));
        assert_eq!(told(Some("http://mine"), &env), told_of("http://mine/", Some("sk-o"), "OPENAI_API_KEY"));
        let empty = [("DEEPSEEK_API_KEY", "sk-d"), ("DEEPSEEK_BASE_URL", " ")];
        assert_eq!(told(None, &empty), told_of("https://api.deepseek.com/", Some("sk-d"), "DEEPSEEK_API_KEY"));
        let error = connect(None, None, &[("DEEPSEEK_BASE_URL", "host/v1")]).unwrap_err().to_string();
        assert!(error.starts_with("DEEPSEEK_BASE_URL \"host/v1\": expected a URL"), "{error}");
    }

    #[test]
    fn a_wrong_key_is_named_but_never_shown() {
        for key in ["sk-secret\n", "sk secret", "sk-secret\u{a0}", "sk-gehe\u{ef}m"] {
            let error = connect(None, None, &[("DEEPSEEK_API_KEY", key)]).unwrap_err();
            assert!(error.to_string().contains("DEEPSEEK_API_KEY"));
            assert!(!format!("{error} {error:?}").contains("sk"), "{error}");
        }
        let connection = connect(None, None, &[("DEEPSEEK_API_KEY", "sk-secret")]).unwrap();
        assert!(!format!("{connection:?}").contains("sk-secret"));
    }

    #[test]
    fn a_wrong_url_says_what_is_wrong_with_it() {
        for (url, part) in [
            ("", "expected a URL such as https://"),
            ("api.deepseek.com", "expected a URL such as https://"),
            ("localhost:8080/v1", "write http://"),
            ("ftp://host/v1", "expected http or https, got ftp"),
            ("http://", "empty host"),
            ("http://host:99999", "port"),
            ("http://host/v1?key=1", "no ?"),
            ("https://host/v1/chat/completions", "without /chat/completions"),
            ("https://host/v1/embeddings/", "without /embeddings"),
        ] {
            let error = connect(Some(url), None, &[]).unwrap_err();
            assert!(matches!(&error, ConnectionError::BadUrl { .. }) && error.to_string().contains(part), "{error}");
        }
        let error = connect(Some("https://me:secret@host/v1"), None, &[]).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
