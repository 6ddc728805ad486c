//! Tokens of SoftHSM, and keys on them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use super::variable;

/// A token of SoftHSM, which is where the environment says.
#[derive(Clone, Debug)]
pub struct SoftHsm {
    context: Pkcs11,
    module: String,
    pin: String,
    token: String,
}

/// Tokens of this process. All are made at once, before any test uses one: SoftHSM does not expect a thread to make
/// tokens while others look for theirs.
const TOKENS: usize = 24;

impl SoftHsm {
    /// The token that the tests of this process share. `None`, and a line that says so, if SoftHSM is not there and not
    /// required.
    #[must_use]
    pub fn shared() -> Option<Self> {
        Self::numbered(0)
    }

    /// A token for the caller alone, who may log out, remove it, or give wrong PINs.
    ///
    /// # Panics
    ///
    /// If all are taken.
    #[must_use]
    pub fn own() -> Option<Self> {
        static TAKEN: AtomicUsize = AtomicUsize::new(1);
        let number = TAKEN.fetch_add(1, Ordering::Relaxed);
        assert!(number < TOKENS, "all tokens are taken: make more");
        Self::numbered(number)
    }

    fn numbered(number: usize) -> Option<Self> {
        static CONTEXT: OnceLock<Pkcs11> = OnceLock::new();
        let module = variable("softhsm", "KMS_TEST_PKCS11_MODULE")?;
        let pin = variable("softhsm", "KMS_TEST_PKCS11_PIN")?;
        let context = CONTEXT.get_or_init(|| {
            let context = ready(&module);
            for number in 0..TOKENS {
                make_token(&context, &label(number), &pin);
            }
            context
        });
        Some(Self {
            context: context.clone(),
            module,
            pin,
            token: label(number),
        })
    }

    /// The path of its module.
    #[must_use]
    pub fn module(&self) -> &str {
        &self.module
    }

    /// The PIN of the token's user.
    #[must_use]
    pub fn pin(&self) -> &str {
        &self.pin
    }

    /// The token's label.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Makes an AES-256 key that does all that a root wrapper asks of one.
    pub fn create_key(&self, label: &str, id: u8) {
        self.create_key_for(label, id, true);
    }

    /// Makes an AES-256 key that encrypts and wraps, or one that does neither.
    ///
    /// # Panics
    ///
    /// If the token refuses.
    pub fn create_key_for(&self, label: &str, id: u8, usable: bool) {
        let template = [
            Attribute::Token(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Label(label.into()),
            Attribute::Id(vec![id]),
            Attribute::ValueLen(32.into()),
            Attribute::Encrypt(usable),
            Attribute::Decrypt(usable),
            Attribute::Wrap(usable),
            Attribute::Unwrap(usable),
        ];
        self.session(|session| session.generate_key(&Mechanism::AesKeyGen, &template))
            .expect("the token makes a key");
    }

    /// Puts an AES-256 key on the token that others have too.
    ///
    /// # Panics
    ///
    /// If the token refuses.
    pub fn import_key(&self, label: &str, id: u8, key: &[u8; 32]) {
        let template = [
            Attribute::Token(true),
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Label(label.into()),
            Attribute::Id(vec![id]),
            Attribute::Value(key.to_vec()),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
        ];
        self.session(|session| session.create_object(&template))
            .expect("the token takes a key");
    }

    /// Puts something on the token that is no key.
    ///
    /// # Panics
    ///
    /// If the token refuses.
    pub fn create_data(&self, label: &str) {
        let template = [
            Attribute::Token(true),
            Attribute::Class(ObjectClass::DATA),
            Attribute::Label(label.into()),
        ];
        self.session(|session| session.create_object(&template))
            .expect("the token takes data");
    }

    /// Destroys the keys of this label.
    ///
    /// # Panics
    ///
    /// If there is none, or the token refuses.
    pub fn destroy_key(&self, label: &str) {
        self.session(|session| {
            let keys = session.find_objects(&[Attribute::Label(label.into())])?;
            assert!(!keys.is_empty(), "no key {label}");
            keys.into_iter()
                .try_for_each(|key| session.destroy_object(key))
        })
        .expect("the token destroys a key");
    }

    /// Logs the process out.
    ///
    /// # Panics
    ///
    /// If it is not logged in.
    pub fn log_out(&self) {
        let session = self
            .context
            .open_ro_session(slot(&self.context, &self.token))
            .expect("a session can be opened");
        session.logout().expect("the process is logged in");
    }

    /// Does something in a session that is logged in, one at a time.
    fn session<T>(&self, work: impl FnOnce(&Session) -> T) -> T {
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let session = self
            .context
            .open_rw_session(slot(&self.context, &self.token))
            .expect("a session can be opened");
        // It may be already.
        let _ = session.login(UserType::User, Some(&secret(&self.pin)));
        work(&session)
    }
}

fn ready(module: &str) -> Pkcs11 {
    let context = Pkcs11::new(module).expect("the module can be loaded");
    // A wrapper may have done it.
    let _ = context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    context
}

fn label(number: usize) -> String {
    format!("kms-{}-{number}", std::process::id())
}

fn make_token(context: &Pkcs11, label: &str, pin: &str) {
    let slots = context.get_slots_with_token().expect("there are slots");
    let free = slots.into_iter().find(|slot| {
        let token = context.get_token_info(*slot);
        token.is_ok_and(|token| !token.token_initialized())
    });
    let free = free.expect("SoftHSM always has a slot for one more token");
    context
        .init_token(free, &secret(pin), label)
        .expect("a token can be made");
    let session = context
        .open_rw_session(slot(context, label))
        .expect("a session can be opened");
    session
        .login(UserType::So, Some(&secret(pin)))
        .expect("the officer's PIN is this one");
    session.init_pin(&secret(pin)).expect("it sets the user's");
}

fn slot(context: &Pkcs11, label: &str) -> Slot {
    let slots = context.get_slots_with_token().expect("there are slots");
    let found = slots.into_iter().find(|slot| {
        let token = context.get_token_info(*slot);
        token.is_ok_and(|token| token.label() == label)
    });
    found.expect("the token was made")
}

fn secret(pin: &str) -> AuthPin {
    AuthPin::new(pin.into())
}
