//! The one error type of the system.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::sync::Arc;

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, with enough context to act on it.
///
/// Match on [`kind`](Self::kind); ask [`is_retryable`](Self::is_retryable) whether trying again can
/// help. `Display` is one level: what failed, for which scope or key, and what to do. The cause is in
/// [`source`](StdError::source). Key material and plaintext never enter an error.
///
/// Errors are cheap to clone, since callers that wait for the same load share its failure.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    operation: Option<&'static str>,
    detail: Option<Cow<'static, str>>,
    context: Vec<(&'static str, String)>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of this kind, without context yet.
    #[must_use]
    pub fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Inner {
            kind,
            operation: None,
            detail: None,
            context: Vec::new(),
            source: None,
        }))
    }

    /// Says more than the kind does. Must hold no secret.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds a pair such as `("scope", "o_1")`. The first value of a name stays.
    ///
    /// A value of more than 300 bytes is cut, and says how long it was: much of what errors are about comes from
    /// blobs, and whoever writes those could fill a log with one.
    #[must_use]
    pub fn with_context(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        if self.context(name).is_none() {
            self.0.context.push((name, Excerpt::of(value)));
        }
        self
    }

    /// Names the operation. The innermost name stays.
    #[must_use]
    pub fn with_operation(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// Keeps a cause of any type.
    #[must_use]
    pub fn with_boxed_source(mut self, source: Box<dyn StdError + Send + Sync>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation that failed, where it is known.
    #[must_use]
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// One value of the context: `"scope"`, `"purpose"`, `"key_version"`, `"table"`, …
    #[must_use]
    pub fn context(&self, name: &str) -> Option<&str> {
        self.0
            .context
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The name of the tenant's own root that failed, or could not be had. It tells what concerns one tenant's customer
    /// from what concerns the whole fleet: the [kind](Self::kind) is the same where the engine's own root fails.
    #[must_use]
    pub fn named_root(&self) -> Option<&str> {
        self.context("root")
    }

    /// Whether the same call may succeed later, or at once for a conflict.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.kind.is_retryable()
    }
}

/// Longer than every id there is.
const MAX_CONTEXT: usize = 300;

/// The beginning of a text, as it is written.
#[derive(Default)]
struct Excerpt {
    kept: String,
    length: usize,
}

impl Excerpt {
    fn of(value: impl fmt::Display) -> String {
        let mut excerpt = Self::default();
        // Writing into it never fails; a value that does is as long as it got.
        let _ = write!(excerpt, "{value}");
        if excerpt.length > excerpt.kept.len() {
            let length = excerpt.length;
            let _ = write!(excerpt.kept, "… ({length} bytes)");
        }
        excerpt.kept
    }
}

impl fmt::Write for Excerpt {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Once something was left out, what follows is too.
        if self.length == self.kept.len() {
            let mut room = (MAX_CONTEXT - self.kept.len()).min(text.len());
            while !text.is_char_boundary(room) {
                room -= 1;
            }
            self.kept.push_str(&text[..room]);
        }
        self.length += text.len();
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operation) = self.0.operation {
            write!(f, "{operation}: ")?;
        }
        f.write_str(self.0.kind.sentence())?;
        if let Some(detail) = &self.0.detail {
            write!(f, ": {detail}")?;
        }
        for (position, (name, value)) in self.0.context.iter().enumerate() {
            f.write_str(if position == 0 { " (" } else { ", " })?;
            // `Debug` of a string escapes what would break a log line.
            write!(f, "{name} {value:?}")?;
        }
        if !self.0.context.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("operation", &self.0.operation)
            .field("detail", &self.0.detail)
            .field("context", &self.0.context)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind)
    }
}

macro_rules! error_kinds {
    ($($(#[$doc:meta])* $name:ident $retry:literal $sentence:literal,)*) => {
        /// The kinds of failure that a caller can tell apart.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind { $($(#[$doc])* $name,)* }

        impl ErrorKind {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$name,)*];

            fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }

            /// Whether the same call may succeed later, or at once for a conflict.
            #[must_use]
            pub fn is_retryable(self) -> bool {
                match self { $(Self::$name => $retry,)* }
            }

            /// The kind's name, as it is kept where failures are recorded.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

error_kinds! {
    // What the caller gave.
    /// A scope id that is empty, blank, longer than 255 bytes, or has NUL or white space around it.
    InvalidScope false "not a scope id",
    /// A purpose that is empty, blank, longer than 255 bytes, or has NUL or white space around it.
    InvalidPurpose false "not a purpose",
    /// The purpose `rootKey`, which stands for root keys.
    ReservedPurpose false "this purpose is reserved for root keys; choose another name",
    /// A purpose that the engine was not built with.
    UndeclaredPurpose false "the purpose was not declared; add it to the purposes of the builder",
    /// The same purpose twice in one list.
    DuplicatePurpose false "the purpose is given twice",
    /// A root's name that is empty, blank, longer than 255 bytes, or has NUL or white space around it.
    InvalidRootName false "not a root's name",
    /// Neither a root nor a data key version id.
    InvalidKeyVersionId false "not a key version id; they look like krkv_… or kdkv_… with ten letters or digits",
    /// Local key material of the wrong length or encoding, or from a file that others can read.
    InvalidKey false "not usable as a key",
    /// Settings that can't work, found before any I/O.
    InvalidConfiguration false "the configuration can't work",

    // What the database holds.
    /// The scope already has keys.
    AlreadyExists false "the scope already has keys",
    /// No keys for this scope.
    UnknownScope false "the scope has no keys; create_keys makes them",
    /// The scope has keys, but none of this purpose.
    UnknownPurpose false "the scope has no data key of this purpose; reconcile_keys makes missing ones",
    /// No such key version (in this scope and purpose, where they were given).
    UnknownKeyVersion false "no such key version",
    /// The newest version of a key can't be revoked.
    NewestVersion false "the newest version of a key can't be revoked; rotate first",
    /// Something still needs what was to be deleted. The context says what.
    InUse false "still in use; re-encrypt or rewrap what uses it first",
    /// Nothing can prove that a data key version is unused.
    UseNotProven false "can't be proven unused; give every column that holds key version ids a restricting foreign key to kms_data_key_version",
    /// A key row that was altered, moved or damaged: it does not open in its place. A root key version that another
    /// root key under the same id made looks the same.
    TamperedKey false "the wrapped key does not open in its row: it was altered, moved or damaged",
    /// A wrapped key that is none of the root wrapper's: made by a root key that it does not hold.
    ForeignRootKey false "the key is wrapped by a root key that the root wrapper does not hold; add that one to a pool to decrypt with",
    /// The root wrapper's key is none of those that the database was filled with: it opens nothing of what the database
    /// holds under its id, so that another key is in its place, or all of that was altered; or nothing there is of its
    /// id, and the context `known_root_keys` names keys that are known.
    WrongRootKey false "the root wrapper's key is not one that this database was filled with",
    /// A wrapped key without binding, in a mode that accepts bound ones only.
    UnboundKey false "the wrapped key is not bound to its row; open it in mode Migrating and rewrap",
    /// Two rows hold the same key, so one of them is a copy. Binding it would make that permanent.
    DuplicateKey false "two rows hold the same wrapped key, so one was copied; find out which belongs, then revoke the other",

    /// A scope that was exported has other keys in the database that is to import it, or holds it. The context says which
    /// key version differs, or which scope holds it there.
    ImportMismatch false "the database has other keys of this scope than the export, or has its keys elsewhere; nothing was written",

    // What the engine may do.
    /// The engine was built to decrypt only.
    DecryptOnly false "this engine only decrypts",
    /// The engine was built without a root wrapper.
    NoRootWrapper false "the engine has no root wrapper; give the builder one",

    // Named roots.
    /// The scope has a named root, or is to get one, and the engine was built without a resolver.
    NoRootResolver false "the scope's root has a name, and this engine has no resolver of names; give the builder one",
    /// The resolver knows no root of this name.
    UnknownRootName false "the resolver knows no root of this name",
    /// The resolver failed. The source is its error.
    RootNotResolved true "the resolver failed to turn a root's name into a wrapper",

    // Encrypted data.
    /// Not a blob: truncated, empty, or of another shape.
    InvalidBlob false "not a blob of this system, or truncated",
    /// The authentication failed; more must not be said.
    AuthenticationFailed false "authentication failed",

    // The root wrapper's service.
    /// The service could not be reached, or answered that it is not available.
    Unreachable true "the root wrapper's service can't be reached or is not available",
    /// The service did not answer in time.
    TimedOut true "the root wrapper's service did not answer in time",
    /// The service asked to slow down.
    Throttled true "the root wrapper's service limits the rate of calls",
    /// The credentials may not do this.
    Denied false "the root wrapper's service refused: check the credentials and the key's policy",
    /// The service does not know the configured key.
    UnknownRootKey false "the root wrapper's service does not know this key",
    /// The service's key is disabled, scheduled for deletion or destroyed.
    RootKeyDisabled false "the root wrapper's key is disabled or destroyed",
    /// The service's key exists, but is of a type or usage that does not encrypt and decrypt.
    UnsuitableRootKey false "the root wrapper's key is of a type or usage that does not encrypt and decrypt",
    /// The service no longer decrypts what this old version of its key encrypted (Vault's
    /// `min_decryption_version`).
    RootKeyVersionRetired false "the root wrapper's service no longer decrypts with this old version of its key; allow the version again, or restore",
    /// Vault or OpenBao is sealed.
    ServiceSealed true "the root wrapper's service is sealed; unseal it",
    /// A certificate of the connection to the service has expired: the service's, or our own. The context
    /// `certificate` says whose.
    CertificateExpired true "a certificate of the connection to the root wrapper's service has expired; renew it",
    /// The node of Vault or OpenBao is a standby that does not serve requests.
    ServiceStandby true "the root wrapper's service answered as a standby node; use the address of the active one",
    /// What the service answered is damaged, incomplete or about another key. It is not used.
    DamagedResponse true "the root wrapper's service gave an answer that is damaged or not about the configured key",

    // The database.
    /// The scope changed since the change was prepared. Nothing was changed.
    Conflict true "the scope changed since this change was prepared; nothing was written, prepare it again",
    /// The caller's transaction can't go on; the change itself is not at fault.
    RestartTransaction false "restart your transaction: its snapshot is too old for this change",
    /// The answer to a commit was lost and what happened could not be found out.
    OutcomeUnknown false "the answer to the commit was lost; look at the scope's keys before trying again",
    /// The database has another schema version than this code.
    SchemaVersion false "the database schema has another version; run the migrations (or adopt a database of Go kms) with the version of this crate",
    /// The database can't be reached.
    DatabaseUnreachable true "the database can't be reached",
    /// No connection was free, or a lock was not granted, within the time allowed.
    DatabaseBusy true "the database or its connection pool is busy",
    /// The server accepts no writes: a standby, or a primary that was demoted or set to read only.
    DatabaseReadOnly true "the database accepts no writes now: it is a standby, or was set to read only",
    /// The server has no space left on its disk. Nothing was written.
    DatabaseFull true "the database has no space left on its disk",
    /// The server refused the login: wrong role, password or database name, or no right to connect.
    DatabaseLogin false "the database refused the login; check the role, the password and the name of the database",
    /// The database file is damaged, or is no database.
    DatabaseDamaged false "the database file is damaged, or is no database",
    /// A foreign key of the application on the keys' scope ids found no row for this scope.
    MissingScopeRow false "the application's table has no row for this scope; insert it in the same transaction, or before",
    /// Any other failure of the database.
    Database false "the database refused",

    // Caching, campaigns, the rest.
    /// The cached keys are past their freshness and the database can't be asked.
    Stale true "the cached keys are too old to use and the database can't be asked",
    /// A campaign of this id exists with other parameters.
    CampaignMismatch false "a campaign with this id exists with other parameters; choose a new id",
    /// A campaign gave up early, since the root wrapper failed for one scope after the other. The source is the last
    /// failure. The same call carries the campaign on.
    CampaignSuspended true "the campaign stopped early, since the root wrapper failed for one scope after the other; see to the cause and call again to carry it on",
    /// Something that should not happen: a task panicked, the system gave no random numbers.
    Internal false "internal failure",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invariant_09_an_error_says_operation_kind_detail_and_context_on_one_level() {
        let error = Error::new(ErrorKind::InUse)
            .with_operation("revoke_key_version")
            .with_context("table", "oidc_client")
            .with_context("table", "ignored")
            .with_detail("3 rows")
            .with_source(std::io::Error::other("cause"));
        assert_eq!(
            error.to_string(),
            "revoke_key_version: still in use; re-encrypt or rewrap what uses it first: 3 rows (table \"oidc_client\")"
        );
        assert_eq!(error.context("table"), Some("oidc_client"));
        assert_eq!(error.source().unwrap().to_string(), "cause");
        assert!(!error.is_retryable());
        assert!(Error::new(ErrorKind::Conflict).is_retryable());
    }

    #[test]
    fn invariant_09_every_kind_has_a_name_and_a_sentence_of_its_own() {
        for (position, kind) in ErrorKind::ALL.iter().enumerate() {
            let error = Error::new(*kind);
            assert_eq!(error.kind(), *kind);
            assert_eq!(kind.name(), format!("{kind:?}"));
            let sentence = error.to_string();
            assert!(sentence.len() > 10 && !sentence.ends_with('.'), "{kind:?}");
            for other in &ErrorKind::ALL[..position] {
                assert_ne!(other.sentence(), sentence, "{kind:?} and {other:?}");
            }
        }
    }

    #[test]
    fn an_error_about_a_blob_with_a_key_id_of_ten_megabytes_is_short() {
        let long = "ü".repeat(5_000_000);
        let error = Error::new(ErrorKind::UnknownKeyVersion).with_context("key_version", &long);
        assert!(error.to_string().len() < 500);
        assert!(format!("{error:?}").len() < 500);
        assert!(error.to_string().contains("(10000000 bytes)"));
        for length in 0..310 {
            let whole = "x".repeat(length);
            let error = Error::new(ErrorKind::UnknownScope).with_context("scope", &whole);
            let is_whole = error.context("scope") == Some(&whole);
            assert_eq!(is_whole, length <= MAX_CONTEXT);
        }
    }

    #[test]
    fn an_error_of_a_hostile_id_stays_on_one_line() {
        let error = Error::new(ErrorKind::UnknownScope).with_context("scope", "a\nb");
        assert!(!error.to_string().contains('\n'));
    }
}
