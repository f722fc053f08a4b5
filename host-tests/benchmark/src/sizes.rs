//! How many users the databases of the benchmark have.

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
