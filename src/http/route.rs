//! Which resource a path names, and which methods it allows.

/// A resource of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// `/hello/<username>`, with the raw segment.
    Hello(&'a str),
    /// `/healthz`.
    Healthz,
    /// `/readyz`.
    Readyz,
    /// `/openapi.json`.
    OpenApi,
}

impl<'a> Route<'a> {
    /// The resource that the path names. The query is ignored.
    pub fn parse(path_with_query: &'a str) -> Option<Self> {
        let path = path_with_query.split('?').next()?;
        match path {
            "/healthz" => Some(Self::Healthz),
            "/readyz" => Some(Self::Readyz),
            "/openapi.json" => Some(Self::OpenApi),
            _ => path.strip_prefix("/hello/").filter(|rest| !rest.contains('/')).map(Self::Hello),
        }
    }

    /// The value of `Allow`.
    pub fn allow(self) -> &'static str {
        match self {
            Self::Hello(_) => "GET, HEAD, PUT, OPTIONS",
            Self::Healthz | Self::Readyz | Self::OpenApi => "GET, HEAD, OPTIONS",
        }
    }

    /// The route without the username, for the log.
    pub fn template(self) -> &'static str {
        match self {
            Self::Hello(_) => "/hello/{username}",
            Self::Healthz => "/healthz",
            Self::Readyz => "/readyz",
            Self::OpenApi => "/openapi.json",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_contract_are_found_with_or_without_a_query() {
        assert_eq!(Route::parse("/hello/John?x=/y"), Some(Route::Hello("John")));
        assert_eq!(Route::parse("/hello/healthz"), Some(Route::Hello("healthz")));
        assert_eq!(Route::parse("/hello/"), Some(Route::Hello("")));
        assert_eq!(Route::parse("/hello/a%2Fb"), Some(Route::Hello("a%2Fb")));
        assert_eq!(Route::parse("/healthz?"), Some(Route::Healthz));
        assert_eq!(Route::parse("/readyz"), Some(Route::Readyz));
        assert_eq!(Route::parse("/openapi.json"), Some(Route::OpenApi));
    }

    #[test]
    fn other_paths_are_not() {
        for path in
            ["", "/", "*", "/hello", "/Hello/a", "/hello/a/", "/hello/a/b", "//hello/a", "/healthz/", "/hell%6f/a"]
        {
            assert_eq!(Route::parse(path), None, "{path}");
        }
    }
}
