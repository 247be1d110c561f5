//! Routes as users configure them.

use std::fmt;
use std::str::FromStr;

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{HeaderMap, Uri};
use url::Url;

use super::error::Error;
use crate::core::quota::QuotaSpec;
use crate::core::route::{ModelSpec, RouteSpec};
use crate::transport::Endpoint;

/// DeepSeek's API.
pub(super) const DEEPSEEK: &str = "https://api.deepseek.com";
/// Beyond this a limit is a mistake.
pub(super) const MOST_CONCURRENCY: u32 = 1_000_000;

/// One way to reach models: a base URL with a key. Several make fallbacks or shares; see
/// [`ClientBuilder::route`](super::ClientBuilder::route).
///
/// ```
/// use tidegate::Route;
///
/// let fallback = Route::new("siliconflow")
///     .base_url("https://api.siliconflow.cn/v1")
///     .api_key("sk-example")
///     .model_as("deepseek-flash", "deepseek-ai/DeepSeek-V4.1-Flash");
/// ```
///
/// Nothing is checked before [`build`](super::ClientBuilder::build).
#[derive(Clone)]
pub struct Route {
    spec: RouteSpec,
    account: Option<String>,
    pub(super) base_url: String,
    beta_url: Option<String>,
    key: Option<String>,
    headers: Vec<(String, String)>,
    pub(super) proxy: Option<String>,
}

impl Route {
    /// A route to `https://api.deepseek.com`, without a key yet. `name` is how errors and metrics call it.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            spec: RouteSpec::new(name, ""),
            account: None,
            base_url: DEEPSEEK.into(),
            beta_url: None,
            key: None,
            headers: Vec::new(),
            proxy: None,
        }
    }

    /// Sets the base URL, to which `/chat/completions` and the like are added. Default `https://api.deepseek.com`.
    #[must_use]
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// Sets the base URL of beta features (fill-in-the-middle, chat prefix completion, strict tools). Default: DeepSeek's
    /// `/beta`, and with any other provider the base URL itself. Setting it says that the provider has them; see
    /// [`ChatCall::resume`](super::ChatCall::resume).
    #[must_use]
    pub fn beta_url(mut self, url: impl Into<String>) -> Self {
        self.beta_url = Some(url.into());
        self
    }

    /// Sets the key, sent as `Authorization: Bearer …`. DeepSeek needs one; a server of your own may not.
    #[must_use]
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the account whose limits the route counts against. Default: an account of its own, by the route's name.
    ///
    /// DeepSeek limits requests in flight per account, whatever the key
    /// (<https://api-docs.deepseek.com/quick_start/rate_limit>), so more keys of one account raise nothing. Give routes of
    /// one account the same name here, and they share what is learned of its limit.
    #[must_use]
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// Names a model that the route serves. Naming some does not exclude others; see
    /// [`only_named_models`](Self::only_named_models).
    #[must_use]
    pub fn model(mut self, name: impl Into<String>) -> Self {
        self.spec.models.push(ModelSpec { name: name.into(), ..ModelSpec::default() });
        self
    }

    /// Names a model that the route's provider calls `upstream`.
    #[must_use]
    pub fn model_as(mut self, name: impl Into<String>, upstream: impl Into<String>) -> Self {
        let (name, upstream) = (name.into(), Some(upstream.into()));
        self.spec.models.push(ModelSpec { name, upstream, ..ModelSpec::default() });
        self
    }

    /// Adds models with everything there is to say of them.
    #[must_use]
    pub fn models(mut self, models: impl IntoIterator<Item = ModelSpec>) -> Self {
        self.spec.models.extend(models);
        self
    }

    /// Restricts the route to the models named; where none is and it is DeepSeek's, to those DeepSeek publishes.
    #[must_use]
    pub fn only_named_models(mut self) -> Self {
        self.spec.any_model = false;
        self
    }

    /// Adds a header to every request, such as a key that does not go into `Authorization`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sends everything through a proxy: `http://`, `https://`, `socks5://` (or `socks5h://`, where the proxy looks names up)
    /// or `socks4://`. Default: what the environment says, in `HTTPS_PROXY` and the like. Natively only: in a browser the
    /// host decides, and `build` refuses.
    #[must_use]
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = Some(url.into());
        self
    }

    /// Sets its share of turns under [`Strategy::Weighted`](crate::Strategy::Weighted): any number above zero. Default 1.
    #[must_use]
    pub fn weight(mut self, weight: f64) -> Self {
        self.spec.weight = weight;
        self
    }

    /// Sets a hard ceiling on requests in flight for each model, at most 1,000,000; what is learned stays at or under it.
    /// Default: the client's.
    #[must_use]
    pub fn max_concurrency(mut self, limit: u32) -> Self {
        self.spec.max_concurrency = Some(limit);
        self
    }

    /// Sets the rate quotas of each model. Only limits that the provider's answers do not state need it (see
    /// [`QuotaSpec`]). Default none; DeepSeek has none.
    #[must_use]
    pub fn quota(mut self, quota: QuotaSpec) -> Self {
        self.spec.quota = quota;
        self
    }

    /// Says that the account limits each `user_id` as well as the whole, as DeepSeek does on accounts with raised quota.
    #[must_use]
    pub fn limits_each_user(mut self) -> Self {
        self.spec.per_user = true;
        self
    }

    pub(super) fn default_max_concurrency(&mut self, limit: Option<u32>) {
        self.spec.max_concurrency = self.spec.max_concurrency.or(limit);
    }

    /// Checks everything, and splits it into what the scheduler and what the transport must know.
    pub(super) fn build(mut self, http: reqwest::Client) -> Result<(RouteSpec, Endpoint), Error> {
        let name = self.spec.name.clone();
        let fail = |what: &str| Error::config(format!("Expected {what} (route `{name}`)"));
        let base = parse_url("base_url", &self.base_url, &name)?;
        let deepseek = base.host_str() == Some("api.deepseek.com");
        let beta = match &self.beta_url {
            Some(url) => parse_url("beta_url", url, &name)?,
            None if deepseek => {
                let mut beta = base.clone();
                beta.set_path("/beta");
                beta
            }
            None => base.clone(),
        };
        if deepseek && self.key.is_none() {
            return Err(fail("an `api_key` for DeepSeek, got none"));
        }
        let authorization = self.key.as_deref().map(|key| authorization(key, &name)).transpose()?;
        let mut headers = HeaderMap::new();
        for (header, value) in &self.headers {
            let parsed = HeaderName::from_str(header)
                .map_err(|_| fail(&format!("header names of letters, digits and hyphens, got {header:?}")))?;
            // The value may be a secret.
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| fail(&format!("the value of header `{header}` to be visible text")))?;
            value.set_sensitive(true);
            headers.insert(parsed, value);
        }
        for (at, model) in self.spec.models.iter().enumerate() {
            if model.name.is_empty() {
                return Err(fail("a model's `name` to be a non-empty string, got \"\""));
            }
            if self.spec.models[..at].iter().any(|other| other.name == model.name) {
                return Err(fail(&format!("model names to be unique, got `{}` twice", model.name)));
            }
        }
        if self.account.as_deref() == Some("") {
            return Err(fail("`account` to be a non-empty string, got \"\""));
        }
        if let Some(limit) = self.spec.max_concurrency
            && !(1..=MOST_CONCURRENCY).contains(&limit)
        {
            return Err(fail(&format!("`max_concurrency` to be between 1 and 1,000,000, got {limit}")));
        }
        if deepseek && self.spec.models.is_empty() {
            self.spec = self.spec.with_deepseek_models();
        }
        self.spec.account = self.account.unwrap_or_else(|| name.clone());
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        let key = self.key.map(Into::into);
        let mut endpoint = Endpoint::new(name.into(), [base, beta], key, headers, http, deepseek);
        // Who names a place for beta features says that there are some.
        endpoint.continues |= self.beta_url.is_some();
        Ok((self.spec, endpoint))
    }
}

impl fmt::Debug for Route {
    /// Without the key, the headers' values and the proxy, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Route")
            .field("spec", &self.spec)
            .field("account", &self.account)
            .field("base_url", &parse_url("base_url", &self.base_url, "").map(String::from).unwrap_or_default())
            .field("has_key", &self.key.is_some())
            .field("headers", &headers)
            .field("has_proxy", &self.proxy.is_some())
            .finish_non_exhaustive()
    }
}

/// What a base URL copied out of an example often ends with.
const ENDPOINTS: [&str; 2] = ["/chat/completions", "/completions"];

/// A base URL that can be sent to and shown. What is wrong with it is said without quoting it: it may hold a secret.
fn parse_url(field: &str, text: &str, route: &str) -> Result<Url, Error> {
    let fail = |what: &str| Err(Error::config(format!("Expected `{field}` {what} (route `{route}`)")));
    let url = match Url::parse(text.trim()) {
        Ok(url) => url,
        Err(error) => return fail(&format!("to be an absolute URL such as {DEEPSEEK}: {error}")),
    };
    if !matches!(url.scheme(), "http" | "https") {
        return fail(&format!("to begin with http:// or https://, got {:?}", url.scheme()));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return fail("to name a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return fail("to be without user name and password; use `api_key` or `header`");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return fail("to be without a query and a fragment");
    }
    if let Some(endpoint) = ENDPOINTS.iter().find(|endpoint| url.path().trim_end_matches('/').ends_with(*endpoint)) {
        return fail(&format!("to be without {endpoint}: requests add their path to it"));
    }
    // What `http` will not send, say so now.
    if Uri::from_str(url.as_str()).is_err() {
        return fail("to be a URL that HTTP can carry");
    }
    Ok(url)
}

fn authorization(key: &str, route: &str) -> Result<HeaderValue, Error> {
    let fail = |what: &str| Err(Error::config(format!("Expected `api_key` {what} (route `{route}`)")));
    if key.is_empty() {
        return fail("to be a non-empty string, got \"\"");
    }
    if key.contains(['\n', '\r']) {
        return fail("to be without line breaks; was it read from a file with a line break at its end?");
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return fail("to be of visible ASCII characters without spaces");
    }
    match HeaderValue::from_str(&format!("Bearer {key}")) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Ok(value)
        }
        Err(_) => fail("to be sendable as a header"),
    }
}
