//! Who may do what: a bearer token for everything and one for reading (RFC 6750), or the certificate of a node or an
//! operator of this cluster. Without a token directory everybody may do everything, and the node must not be
//! reachable for strangers.
//!
//! ```text
//! <directory>/admin       token that may do everything
//! <directory>/read-only   token that may read; optional
//! ```

use super::headers::single;
use super::problem::RequestError;
use http::{Extensions, HeaderMap, Method, header};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often the files are looked at. Kubernetes brings a changed Secret to a pod within about a minute.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A shorter token could be guessed.
const TOKEN_BYTES_MIN: usize = 16;
const TOKEN_BYTES_MAX: usize = 4096;

/// Stands among a request's extensions when its connection showed a certificate of this cluster.
#[derive(Debug, Clone, Copy)]
pub struct OfThisCluster;

/// The tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A file cannot be read.
    #[error(
        "{path} cannot be read: {source}; --token-directory needs a file named admin, and may have one named read-only"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A token is none.
    #[error(
        "{path} holds no token: one line of {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} visible ASCII characters is needed"
    )]
    Unusable {
        /// The file.
        path: PathBuf,
    },
    /// Both files say the same.
    #[error("the tokens admin and read-only in {0} are the same; whoever may only read could write")]
    Same(PathBuf),
}

#[derive(PartialEq, Eq, Clone)]
struct Current {
    admin: String,
    read_only: Option<String>,
}

/// The tokens in use. Never shown.
pub struct Tokens {
    directory: PathBuf,
    current: Mutex<Current>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Reads the tokens.
    pub fn open(directory: PathBuf) -> Result<Self, TokenError> {
        let current = Mutex::new(read_all(&directory)?);
        Ok(Self { directory, current })
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Replaced whole.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the files again and again: a token that was replaced is worth nothing a few seconds later.
    pub async fn keep_up_to_date(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let tokens = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || tokens.reload()).await {
                tracing::error!(%error, "the tokens could not be looked at");
            }
        }
    }

    /// One look. Tokens that cannot be used leave the old ones in use. True when there are new ones.
    pub fn reload(&self) -> bool {
        let found = match read_all(&self.directory) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "tokens not read again; the old ones stay in use");
                return false;
            }
        };
        let mut current = self.current();
        let is_new = *current != found;
        if is_new {
            tracing::info!(directory = %self.directory.display(), "tokens read again");
            *current = found;
        }
        is_new
    }

    /// Whether a request may be carried out.
    pub fn check(&self, method: &Method, headers: &HeaderMap, extensions: &Extensions) -> Result<(), RequestError> {
        if extensions.get::<OfThisCluster>().is_some() {
            return Ok(());
        }
        let Some(shown) = single(headers, &header::AUTHORIZATION)? else {
            return Err(RequestError::Unauthorized("this node asks for a token: send Authorization: Bearer <token>"));
        };
        let shown = match shown.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => return Err(RequestError::Unauthorized("the Authorization header must be: Bearer <token>")),
        };
        let current = self.current();
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if same(shown, &current.admin) {
            Ok(())
        } else if current.read_only.as_ref().is_some_and(|token| same(shown, token)) {
            if reads { Ok(()) } else { Err(RequestError::Forbidden) }
        } else {
            Err(RequestError::Unauthorized("this token is not, or is no longer, valid here"))
        }
    }
}

/// Compares without telling by its duration how much was right.
fn same(shown: &str, token: &str) -> bool {
    let differences = shown.bytes().zip(token.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    shown.len() == token.len() && std::hint::black_box(differences) == 0
}

fn read_all(directory: &Path) -> Result<Current, TokenError> {
    let admin = read(directory.join("admin"))?;
    let read_only = match read(directory.join("read-only")) {
        Ok(token) => Some(token),
        Err(TokenError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if read_only.as_ref() == Some(&admin) {
        return Err(TokenError::Same(directory.to_owned()));
    }
    Ok(Current { admin, read_only })
}

fn read(path: PathBuf) -> Result<String, TokenError> {
    use std::io::Read as _;
    let mut text = String::new();
    let found =
        std::fs::File::open(&path).and_then(|file| file.take(2 * TOKEN_BYTES_MAX as u64).read_to_string(&mut text));
    if let Err(source) = found {
        return Err(TokenError::Unreadable { path, source });
    }
    let token = text.trim();
    let is_token =
        (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    if is_token { Ok(token.to_owned()) } else { Err(TokenError::Unusable { path }) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    const ADMIN: &str = "admin-token-0123456789";
    const READER: &str = "reader-token-0123456789";

    fn tokens() -> (tempfile::TempDir, Tokens) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("admin"), format!("{ADMIN}\n")).unwrap();
        std::fs::write(directory.path().join("read-only"), READER).unwrap();
        let tokens = Tokens::open(directory.path().to_owned()).unwrap();
        (directory, tokens)
    }

    fn asked(tokens: &Tokens, method: Method, authorization: Option<&str>) -> Result<(), RequestError> {
        let headers = authorization.map(|text| (header::AUTHORIZATION, text.parse().unwrap()));
        tokens.check(&method, &headers.into_iter().collect(), &Extensions::new())
    }

    #[test]
    fn each_token_may_do_its_own() {
        let (_directory, tokens) = tokens();
        let (admin, reader) = (format!("Bearer {ADMIN}"), format!("bearer {READER}"));
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            assert_eq!(asked(&tokens, method, Some(&admin)), Ok(()));
        }
        assert_eq!(asked(&tokens, Method::GET, Some(&reader)), Ok(()));
        assert_eq!(asked(&tokens, Method::POST, Some(&reader)), Err(RequestError::Forbidden));
        for wrong in [None, Some("Bearer admin-token-012345678"), Some("Bearer "), Some("Basic YTpi"), Some("Bearer")] {
            let refused = asked(&tokens, Method::GET, wrong);
            assert!(matches!(refused, Err(RequestError::Unauthorized(_))), "{wrong:?}: {refused:?}");
        }
        let mut extensions = Extensions::new();
        extensions.insert(OfThisCluster);
        assert_eq!(tokens.check(&Method::PUT, &HeaderMap::new(), &extensions), Ok(()));
    }

    #[test]
    fn a_replaced_token_is_taken_up_and_a_broken_one_is_not() {
        let (directory, tokens) = tokens();
        assert!(!tokens.reload());
        std::fs::write(directory.path().join("admin"), "short").unwrap();
        assert!(!tokens.reload());
        assert_eq!(asked(&tokens, Method::PUT, Some(&format!("Bearer {ADMIN}"))), Ok(()), "the old one stays in use");
        std::fs::write(directory.path().join("admin"), "another-token-9876543210").unwrap();
        assert!(tokens.reload());
        assert!(asked(&tokens, Method::PUT, Some(&format!("Bearer {ADMIN}"))).is_err());
        assert_eq!(asked(&tokens, Method::PUT, Some("Bearer another-token-9876543210")), Ok(()));
    }

    #[test]
    fn what_is_no_token_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Tokens::open(directory.path().to_owned()).unwrap_err().to_string();
        assert!(open().contains("admin cannot be read"), "{}", open());
        std::fs::write(directory.path().join("admin"), "two words are no token").unwrap();
        assert!(open().contains("holds no token"), "{}", open());
        std::fs::write(directory.path().join("admin"), ADMIN).unwrap();
        std::fs::write(directory.path().join("read-only"), ADMIN).unwrap();
        assert!(open().contains("are the same"), "{}", open());
    }
}
