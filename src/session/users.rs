//! All users, and which of them changed.
//!
//! Users are shared as snapshots: a session holds that of its user, and asks before each command whether anything has changed
//! since (one relaxed load); only then it looks again. A change enters another snapshot under the same id. A user that was removed is not
//! found again, not even if one of the same name is made, and its sessions end.
//!
//! ```text
//! change: write lock { new snapshot in place; generation + 1 } -> end clients that are left over or listen to what they may not
//! client: generation as before? -- yes --> the snapshot it holds          SUBSCRIBE looks at it once more when it has subscribed, so that
//!                               -- no ---> look up by name and id         either it sees the change or whoever changes sees it
//! ```

use crate::session::permissions::{DEFAULT_USER, User};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

const RELAXED: Ordering = Ordering::Relaxed;

/// Users by name.
pub type UserMap = BTreeMap<Arc<[u8]>, Arc<User>>;

/// How often users have changed. Every command reads it, on every core: nothing that is written more often may lie on its cache line (or on
/// the one beside it, which some processors fetch together).
#[derive(Debug)]
#[repr(align(128))]
struct Generation(AtomicU64);

/// See the module.
#[derive(Debug)]
pub struct Users {
    all: RwLock<UserMap>,
    generation: Generation,
    next_id: AtomicU64,
    /// Whether new connections have to say a password before anything else.
    asks: AtomicBool,
    /// Whether the default user needs no password.
    is_open: AtomicBool,
}

impl Users {
    /// These users; with the default one, if it is not among them.
    pub fn new(users: impl IntoIterator<Item = User>) -> Users {
        let own = Users {
            all: RwLock::default(),
            generation: Generation(AtomicU64::new(1)),
            next_id: AtomicU64::new(1),
            asks: AtomicBool::new(false),
            is_open: AtomicBool::new(true),
        };
        own.replace_all(users);
        own
    }

    fn read(&self) -> RwLockReadGuard<'_, UserMap> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, UserMap> {
        self.all.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grows with each change.
    #[inline]
    pub fn generation(&self) -> u64 {
        // Relaxed: a change is in force once its store is visible here; what changed is read under the lock.
        self.generation.0.load(RELAXED)
    }

    /// Whether new connections have to say a password before anything else.
    pub fn asks_for_password(&self) -> bool {
        self.asks.load(RELAXED)
    }

    /// Whether whoever can connect is the default user without a password.
    pub fn is_open(&self) -> bool {
        self.is_open.load(RELAXED)
    }

    /// All users.
    pub fn all(&self) -> Vec<Arc<User>> {
        self.read().values().cloned().collect()
    }

    /// A user by name.
    pub fn get(&self, name: &[u8]) -> Option<Arc<User>> {
        self.read().get(name).cloned()
    }

    /// The user that new connections have, and the generation it was looked up in.
    pub fn default_user(&self) -> (Arc<User>, u64) {
        let all = self.read();
        let user = all.get(DEFAULT_USER).cloned().unwrap_or_else(|| Arc::new(User::new_default()));
        (user, self.generation())
    }

    /// The same user as it is now; `None` if it was removed. And the generation it was looked up in.
    pub fn current(&self, user: &User) -> (Option<Arc<User>>, u64) {
        let all = self.read();
        (all.get(&user.name).filter(|now| now.id == user.id).cloned(), self.generation())
    }

    fn changed(&self, all: &UserMap) {
        let default = all.get(DEFAULT_USER);
        let is_open = default.is_some_and(|user| user.needs_no_password);
        self.is_open.store(is_open, RELAXED);
        self.asks.store(!(is_open && default.is_some_and(|user| user.is_on)), RELAXED);
        self.generation.0.fetch_add(1, RELAXED);
    }

    fn enter(&self, all: &mut UserMap, mut user: User) -> Arc<User> {
        user.id = all.get(&user.name).map_or_else(|| self.next_id.fetch_add(1, RELAXED), |old| old.id);
        let user = Arc::new(user);
        all.insert(Arc::clone(&user.name), Arc::clone(&user));
        user
    }

    /// Makes a user, or changes it: `change` is given what there is, and may take its time, as no lock is held meanwhile. If somebody else
    /// has changed the same user first, it is called again. Returns the user before and after.
    pub fn change<E>(
        &self,
        name: &[u8],
        mut change: impl FnMut(Option<&User>) -> Result<User, E>,
    ) -> Result<(Option<Arc<User>>, Arc<User>), E> {
        loop {
            let old = self.get(name);
            let new = change(old.as_deref())?;
            let mut all = self.write();
            // As long as `old` is held, no other user can lie where it does.
            if all.get(name).map(Arc::as_ptr) == old.as_ref().map(Arc::as_ptr) {
                let new = self.enter(&mut all, new);
                self.changed(&all);
                return Ok((old, new));
            }
        }
    }

    /// Removes users. Those that there were.
    pub fn remove<'n>(&self, names: impl IntoIterator<Item = &'n [u8]>) -> Vec<Arc<User>> {
        let mut all = self.write();
        let removed: Vec<_> = names.into_iter().filter_map(|name| all.remove(name)).collect();
        self.changed(&all);
        removed
    }

    /// Replaces all users by these, and the default one as it is at first if it is not among them. A user of the same name stays the same for its
    /// clients. Returns each user that there was, with what became of it.
    pub fn replace_all(&self, users: impl IntoIterator<Item = User>) -> Vec<(Arc<User>, Option<Arc<User>>)> {
        // If they name it, theirs comes later.
        let users: Vec<User> = std::iter::once(User::new_default()).chain(users).collect();
        loop {
            // As in `change`, what takes long is done without the lock.
            let (old, generation) = {
                let all = self.read();
                (all.clone(), self.generation())
            };
            let mut new = UserMap::new();
            for user in &users {
                let known = old.get(&user.name).map(|old| old.id);
                let id = known.unwrap_or_else(|| self.next_id.fetch_add(1, RELAXED));
                new.insert(Arc::clone(&user.name), Arc::new(User { id, ..user.clone() }));
            }
            let fates =
                old.values().map(|old| (Arc::clone(old), new.get(&old.name).cloned())).collect::<Vec<_>>();
            let mut all = self.write();
            if self.generation() == generation {
                *all = new;
                self.changed(&all);
                return fates;
            }
        }
    }

    /// `requirepass`: the one password of the default user; empty for none.
    pub fn set_default_password(&self, password: &[u8]) {
        // It cannot be removed, so there is always one to change.
        let _ = self.change(DEFAULT_USER, |old| -> Result<User, ()> {
            let mut user = old.cloned().unwrap_or_else(User::new_default);
            user.set_password((!password.is_empty()).then_some(password));
            Ok(user)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn_on(old: Option<&User>) -> Result<User, ()> {
        Ok(User { is_on: true, ..old.cloned().unwrap_or_else(|| User::new(b"u", false)) })
    }

    #[test]
    fn a_changed_user_is_the_same_and_one_made_anew_another() {
        let users = Users::new([]);
        let before = users.generation();
        let (old, made) = users.change(b"u", turn_on).unwrap();
        assert!(old.is_none() && users.generation() > before);
        let (_, changed) = users.change(b"u", turn_on).unwrap();
        assert_eq!(made.id, changed.id);
        assert!(users.current(&made).0.is_some_and(|now| Arc::ptr_eq(&now, &changed)));
        assert_eq!(users.remove([&b"u"[..], b"v"]).len(), 1);
        let (_, anew) = users.change(b"u", turn_on).unwrap();
        assert_ne!(anew.id, made.id);
        assert!(users.current(&made).0.is_none());
        let generation = users.generation();
        assert!(users.change(b"u", |_| Err(())).is_err());
        assert_eq!(users.generation(), generation, "nothing happened");
    }

    #[test]
    fn a_change_takes_no_lock_and_is_not_lost_to_another() {
        let users = Users::new([]);
        let mut asked = 0;
        let change = |old: Option<&User>| {
            asked += 1;
            if asked == 1 {
                users.change(b"u", turn_on).unwrap();
            }
            let old = old.cloned().unwrap_or_else(|| User::new(b"u", false));
            Ok::<_, ()>(User { needs_no_password: true, ..old })
        };
        let (old, new) = users.change(b"u", change).unwrap();
        assert!(asked == 2 && old.is_some() && new.is_on && new.needs_no_password);
        // One that was removed meanwhile is made anew.
        let mut removed = Vec::new();
        let change = |old: Option<&User>| {
            removed.extend(users.remove([&b"u"[..]]));
            turn_on(old)
        };
        let (old, anew) = users.change(b"u", change).unwrap();
        assert!(old.is_none() && removed.len() == 1 && anew.id != new.id && !anew.needs_no_password);
    }

    #[test]
    fn passwords_of_the_default_user() {
        let users = Users::new([]);
        assert!(users.is_open() && !users.asks_for_password());
        users.set_default_password(b"x");
        assert!(!users.is_open() && users.asks_for_password());
        users.set_default_password(b"");
        assert!(users.is_open() && !users.asks_for_password());
        users.change(b"default", |old| Ok::<_, ()>(User { is_on: false, ..old.unwrap().clone() })).unwrap();
        assert!(users.is_open() && users.asks_for_password());
    }

    #[test]
    fn replaced_users_keep_their_clients() {
        let users = Users::new([]);
        users.change(b"u", turn_on).unwrap();
        let (_, gone) = users.change(b"v", |_| Ok::<_, ()>(User::new(b"v", false))).unwrap();
        let default = users.default_user().0;
        let fate = users.replace_all([User::new(b"u", true)]);
        let of = |name: &[u8]| fate.iter().find(|(old, _)| *old.name == *name).unwrap();
        assert!(of(b"u").1.as_ref().is_some_and(|new| new.id == of(b"u").0.id && !new.is_on));
        assert!(of(b"v").1.is_none() && users.current(&gone).0.is_none());
        assert!(users.current(&default).0.is_some() && users.all().len() == 2);
    }
}
