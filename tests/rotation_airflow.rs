//! What real Airflows have encrypted is read by them with the new key alone, on all three kinds of databases.
