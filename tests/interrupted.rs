//! A change of the Fernet key that is interrupted somewhere: the file is whole, its keys read every row, and the same verb, called again,
//! goes on to the end.

use std::fmt::Debug;
use std::fs;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use fernet::Fernet;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};
use tokio::runtime::{Builder, Runtime};

use crate::databases::{Database, Kind};
use crate::outcome::Outcome;
use crate::rotation::read_by;
use crate::running::DEADLINE;
use crate::sandbox::{Sandbox, V2, fingerprint, new_key};
use crate::verdict::Place;

/// A verb that changes the key or the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Promote,
    Reencrypt,
    Retire,
    Rotate,
    Stage,
}

impl Verb {
    pub(crate) fn words(self) -> [&'static str; 2] {
        let verb = match self {
            Self::Promote => "promote",
            Self::Reencrypt => "reencrypt",
            Self::Retire => "retire",
            Self::Rotate => "rotate",
            Self::Stage => "stage",
        };
        ["key", verb]
    }
}

/// A deployment whose key changes again and again.
pub(crate) struct Deployment<'p> {
    pub(crate) sandbox: Sandbox,
    place: &'p Place<'p>,
    login: Login,
    values: usize,
    /// The key that all rows are under before the verb.
    key: String,
    /// What is in the file before the verb.
    list: Vec<String>,
}

/// A login of ours, which saves a program for each look, and may hold a transaction open.
pub(crate) struct Login {
    runtime: Runtime,
    connection: AnyConnection,
}

/// How far the verb was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// The file is as it was.
    Before,
    /// The file is another one, or was not to be changed, and the rows are not as they shall be.
    Halfway,
    /// File and rows are as they shall be.
    Done,
}

impl<'p> Deployment<'p> {
    pub(crate) fn new(place: &'p Place<'p>) -> Self {
        let (sandbox, key) = (place.sandbox(V2), new_key());
        let values = place.fill(&sandbox, V2, &key);
        // What is long is long encrypted, at each of hundreds of points.
        let short = Fernet::new(&key).unwrap().encrypt(b"short");
        place.sql(&sandbox, &format!("UPDATE connection SET extra = '{short}' WHERE conn_id = 'both'"));
        Self { login: Login::to(place, &sandbox), sandbox, place, values, list: Vec::new(), key }
    }

    /// Everything is as it is before this verb.
    pub(crate) fn prepare(&mut self, verb: Verb) {
        self.login.until_alone(self.place);
        let (old, new) = (self.key.clone(), new_key());
        let note = (verb == Verb::Promote).then(|| format!("{}\n", fingerprint(&new)));
        self.list = match verb {
            Verb::Rotate | Verb::Stage => vec![old],
            Verb::Promote | Verb::Retire => vec![old, new],
            Verb::Reencrypt => vec![new, old],
        };
        for name in self.sandbox.names("keys") {
            fs::remove_file(self.sandbox.path("keys").join(name)).unwrap();
        }
        self.sandbox.write("keys/fernet.key", format!("{}\n", self.list.join(",")));
        if let Some(note) = note {
            self.sandbox.write("keys/fernet.staged", note);
        }
    }

    /// Judges what an interruption has left, and lets the same verb go on. Says how far it was.
    pub(crate) fn survives(&mut self, verb: Verb, at: &str) -> State {
        let left = self.keys(at);
        // Whatever the server has still been doing: both keys are there as long as it may end either way.
        let rows = self.tokens();
        let read: usize = left.iter().map(|key| read_by(key, &rows)).sum();
        assert_eq!((rows.len(), read), (self.values, self.values), "{at}: rows are lost");
        for name in self.sandbox.names("keys") {
            let parts: Vec<_> = name.split('.').collect();
            let staged = matches!(parts[..], ["", "fernet", "key" | "staged", pid, attempt]
                if [pid, attempt].iter().all(|part| part.parse::<u32>().is_ok()));
            assert!(staged || ["fernet.key", "fernet.staged"].contains(&&*name), "{at}: `{name}` is left");
        }
        let ready = self.is_done(verb, &left);
        let again = self.again(verb);
        match (verb, ready) {
            // Another one is not wanted, and which it is is said.
            (Verb::Stage, true) => {
                again
                    .same(again.code(), 78)
                    .says(&format!("error: cannot do that now: the Fernet key `{}` is staged", fingerprint(&left[1])));
            }
            _ => _ = again.succeeds(),
        }
        let now = self.keys(at);
        assert!(self.is_done(verb, &now), "{at}: it did not go on to the end");
        assert!(left == self.list || left == now, "{at}: another key was made");
        let renewed = read_by(&now[0], &rows) == self.values;
        let under = if [Verb::Stage, Verb::Promote].contains(&verb) { &self.key } else { &now[0] }.clone();
        assert_eq!(read_by(&under, &self.tokens()), self.values, "{at}: it did not go on to the end");
        let state = match verb {
            Verb::Reencrypt if renewed => State::Done,
            _ if left == self.list => State::Before,
            Verb::Rotate if !renewed => State::Halfway,
            _ => State::Done,
        };
        self.key = under;
        state
    }

    /// The keys of the file, which is whole.
    fn keys(&self, at: &str) -> Vec<String> {
        let text = self.sandbox.read("keys/fernet.key");
        let keys: Vec<_> = text.trim_end().split(',').map(str::to_owned).collect();
        let whole = text.ends_with('\n') && keys.iter().all(|key| key.len() == 44);
        assert!(whole, "{at}: the file has {} bytes", text.len());
        keys
    }

    /// Whether the file is as the verb shall leave it.
    fn is_done(&self, verb: Verb, keys: &[String]) -> bool {
        match (verb, keys, self.list.as_slice()) {
            (Verb::Rotate, [new, kept], [old]) => kept == old && new != old,
            (Verb::Stage, [kept, new], [old]) => kept == old && new != old,
            (Verb::Promote, [first, second], [old, new]) => (first, second) == (new, old),
            (Verb::Reencrypt, now, before) => now == before,
            (Verb::Retire, [kept], [first, _]) => kept == first,
            _ => false,
        }
    }

    /// The verb once more. A server may still have the login of one that was killed.
    fn again(&self, verb: Verb) -> Outcome {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let outcome = self.sandbox.run(&verb.words());
            let busy = outcome.code() == 69 && outcome.stderr.contains("holds the lock\n");
            if !busy || Instant::now() > deadline {
                return outcome;
            }
        }
    }

    /// All texts of the database that are encrypted.
    fn tokens(&mut self) -> Vec<String> {
        let text = |column: &str| match self.place {
            Place::Server { server, .. } if server.kind == Kind::MariaDb => format!("CONVERT({column} USING utf8mb4)"),
            _ => format!("CAST({column} AS TEXT)"),
        };
        let trigger = self.place.quoted("trigger");
        let each = [("connection", "password"), ("connection", "extra"), ("variable", "val"), (&trigger, "kwargs")]
            .map(|(table, column)| format!("SELECT {} FROM {table}", text(column)));
        let mut rows = self.login.rows(&each.join(" UNION ALL "));
        rows.retain(|text| text.starts_with("gAAAAA") && text != "gAAAAAplain");
        rows
    }
}

impl Login {
    pub(crate) fn to(place: &Place<'_>, sandbox: &Sandbox) -> Self {
        let url = match place {
            Place::Server { server, name } => server.url(name).replace("+psycopg2", "").replace("+mysqldb", ""),
            Place::Sqlite => format!("sqlite://{}", sandbox.text("home/airflow.db")),
        };
        sqlx::any::install_default_drivers();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(AnyConnection::connect(&url)).unwrap();
        Self { runtime, connection }
    }

    /// Does what yields nothing.
    pub(crate) fn command(&mut self, sql: &str) {
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        self.runtime.block_on(done.execute(&mut self.connection)).unwrap();
    }

    /// Waits until a server knows of nobody else's login to the database any more: the last one's has its lock until then.
    pub(crate) fn until_alone(&mut self, place: &Place<'_>) {
        let others = match place {
            Place::Server { server, .. } if server.kind == Kind::MariaDb => {
                "SELECT 'one' FROM information_schema.processlist WHERE db = database() AND id <> connection_id()"
            }
            Place::Server { .. } => {
                "SELECT 'one' FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            }
            Place::Sqlite => return,
        };
        let deadline = Instant::now() + DEADLINE;
        while !self.rows(others).is_empty() {
            assert!(Instant::now() < deadline, "others are logged in");
        }
    }

    fn rows(&mut self, sql: &str) -> Vec<String> {
        let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
        // SQLite lets nobody read for the moment in which somebody writes.
        let rows = self.runtime.block_on(query.fetch_all(&mut self.connection)).unwrap();
        rows.iter().filter_map(|row| row.get(0)).collect()
    }
}

/// A database of its own for each of some deployments, and one for the run that is only looked at.
pub(crate) fn several<'d>(server: Option<&'d Database>, name: &str) -> (Vec<Place<'d>>, Place<'d>) {
    let new = |number| match server {
        Some(server) => {
            let name = format!("{name}{number}");
            server.create(&name);
            Place::Server { server, name }
        }
        None => Place::Sqlite,
    };
    ((0..3).map(new).collect(), new(3))
}

/// Several deployments at once interrupt a verb at each of these points, and at more until there are no more. What a striker does at a point
/// ends with whether there was one. Says how often the verb was how far (`State`).
pub(crate) fn everywhere<P: Copy + Debug + Send, S: FnMut(&Deployment<'_>, P) -> bool>(
    places: &[Place<'_>],
    verb: Verb,
    points: Vec<P>,
    more: impl Iterator<Item = P> + Send,
    striker: impl Fn(&Place<'_>) -> S + Sync,
) -> [usize; 3] {
    let points = points.into_iter().map(|point| (point, false)).chain(more.map(|point| (point, true)));
    let (points, counts) = (Mutex::new(points), Mutex::new([0; 3]));
    thread::scope(|scope| {
        for place in places {
            scope.spawn(|| {
                let (mut deployment, mut strike) = (Deployment::new(place), striker(place));
                loop {
                    let (point, is_more) = points.lock().unwrap().next().expect("they have no end");
                    deployment.prepare(verb);
                    let struck = strike(&deployment, point);
                    let state = deployment.survives(verb, &format!("{verb:?} at {point:?}"));
                    match struck {
                        true => counts.lock().unwrap()[state as usize] += 1,
                        false => assert_eq!(state, State::Done, "{verb:?} has not come to {point:?}, nor to its end"),
                    }
                    if is_more && !struck {
                        return;
                    }
                }
            });
        }
    });
    counts.into_inner().unwrap()
}
