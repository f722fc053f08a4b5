//! What is asked for, of how many users, and for how long.

/// The version of the date that [`RequestType::SavingSame`] sends, and that every user has then.
pub const SAME: u16 = 1;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestType {
    /// A greeting for a random user.
    Greeting,
    /// Another date for a random user.
    Saving,
    /// The date that a random user has already.
    SavingSame,
}

/// A database with so many users.
pub struct Size {
    /// Its name.
    pub name: &'static str,
    /// How many users it has.
    pub users: u32,
}

/// The database that most cases use.
pub const SMALL: Size = Size { name: "dob_small", users: 10_000 };
/// The database that shows what more users cost.
pub const LARGE: Size = Size { name: "dob_large", users: 1_000_000 };

/// How long to measure.
#[derive(Clone, Copy)]
pub struct Settings {
    /// How often each case gets its turn.
    pub rounds: u32,
    /// How long a turn is.
    pub seconds: u32,
}

impl Settings {
    /// Less than 6 minutes.
    pub const FULL: Self = Self { rounds: 15, seconds: 1 };
    /// About a minute, to see whether the benchmark works.
    pub const QUICK: Self = Self { rounds: 3, seconds: 1 };
}
