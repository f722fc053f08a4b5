//! Types of requests, sizes of databases, and durations.

/// The version of the date that [`RequestType::SavingSame`] sends, and that every user already has.
pub const SAME: u16 = 1;

/// A type of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestType {
    /// A greeting for a random user.
    Greeting,
    /// A save of another date for a random user.
    Saving,
    /// A save of the date that a random user already has.
    SavingSame,
}

/// A database with this many users.
pub struct Size {
    /// Its name.
    pub name: &'static str,
    /// How many users it has.
    pub users: u32,
}

/// The database that most cases use.
pub const SMALL: Size = Size { name: "dob_small", users: 10_000 };
/// The database that shows the cost of more users.
pub const LARGE: Size = Size { name: "dob_large", users: 1_000_000 };

/// How long to measure.
#[derive(Clone, Copy)]
pub struct Settings {
    /// How many turns each case gets.
    pub rounds: u32,
    /// The length of a turn.
    pub seconds: u32,
}

impl Settings {
    /// About 12 minutes.
    pub const FULL: Self = Self { rounds: 9, seconds: 1 };
    /// Few rounds, to check that the benchmark works.
    pub const QUICK: Self = Self { rounds: 3, seconds: 1 };
}
