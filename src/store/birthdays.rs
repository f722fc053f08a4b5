//! Saving and finding a birthday.

use super::{failure::Failure, routing::Store, session::Session};
use crate::domain::{DateOfBirth, Username};
use crate::host::{Connection, Host, Parameter, Purpose, Value};

/// Inserts or updates. If the same date is stored already, it only reads, so a repeated save writes no row version.
const SAVE: &str = "\
    INSERT INTO dob_api.birthday AS stored (username, date_of_birth) \
    SELECT $1::text, $2::date WHERE NOT EXISTS \
    (SELECT FROM dob_api.birthday WHERE username = $1::text AND date_of_birth = $2::date) \
    ON CONFLICT (username) DO UPDATE SET date_of_birth = EXCLUDED.date_of_birth, updated_at = now() \
    WHERE stored.date_of_birth <> EXCLUDED.date_of_birth";

/// Returns one row whether the user exists or not. The second column shows whether the server behind a pooled connection was demoted.
const FIND: &str = "\
    SELECT (SELECT date_of_birth FROM dob_api.birthday WHERE username = $1), pg_is_in_recovery()";

impl<H: Host> Store<'_, H> {
    /// Saves the date of birth on the primary. It is durable there when this returns.
    pub async fn save(&self, user: &Username, born: DateOfBirth) -> Result<(), Failure> {
        let (year, month, day) = born.year_month_day();
        let user = user.key();
        let parameters = [Parameter::Text(&user), Parameter::Date(year, month as u8, day as u8)];
        let saved = self.on_primary(Purpose::Saving, async |session| session.execute("save", SAVE, &parameters).await);
        self.in_time("save", saved).await
    }

    /// The user's date of birth: from the primary, or from a replica while the primary is down or silent.
    pub async fn find(&self, user: &Username) -> Result<Option<DateOfBirth>, Failure> {
        let user = user.key();
        let on_replicas = async |likely| self.on_replicas(likely, async |session| find(session, &user).await).await;
        let (born, _) = self.read(self.find_on_primary(&user), on_replicas).await?;
        Ok(born)
    }

    /// From the primary. If there is none, from the demoted server that the pooled connection still leads to.
    async fn find_on_primary(&self, user: &str) -> Result<Found, Failure> {
        let mut from_demoted = None;
        let found = self.on_primary(Purpose::Reading, async |session| {
            let found = find(session, user).await?;
            if found.1 {
                from_demoted = Some(found);
                return Err(Failure::not_primary("find"));
            }
            Ok(found)
        });
        found.await.or_else(|failure| from_demoted.ok_or(failure))
    }
}

/// The stored date, if any, and whether the server that returned it is a replica.
type Found = (Option<DateOfBirth>, bool);

async fn find<C: Connection>(session: &Session<C>, user: &str) -> Result<Found, Failure> {
    match session.one_row("find", FIND, &[Parameter::Text(user)]).await?[..] {
        [Value::Null, Value::Boolean(in_recovery)] => Ok((None, in_recovery)),
        [Value::Date(year, month, day), Value::Boolean(in_recovery)] => {
            DateOfBirth::stored(year, month.into(), day.into())
                .map(|born| (Some(born), in_recovery))
                .ok_or_else(|| Failure::unexpected("find"))
        }
        _ => Err(Failure::unexpected("find")),
    }
}
