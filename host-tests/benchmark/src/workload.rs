//! What is asked for, and of how many users.

/// The version of the date that [`Load::SavingSame`] sends, and that every user has then.
pub const SAME: u16 = 1;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
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
