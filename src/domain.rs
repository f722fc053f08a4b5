//! What a username and a date of birth are, and the greeting. Nothing here knows HTTP, SQL or the host.

pub mod birthday;
pub mod date_of_birth;
pub mod username;

pub use date_of_birth::DateOfBirth;
pub use username::Username;
