//! One engine over several hosts: the others connect to the leader, which serves once all of them
//! have, and no longer than all of them stay.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::args::Membership;
use crate::run::Error;

/// Between two tries of a member to reach a leader that does not listen yet.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// The others, as the leader sees them.
pub struct Others {
    streams: JoinSet<u32>,
}

/// Waits until every other member has connected.
pub async fn gather(membership: &Membership) -> Result<Others, Error> {
    let address = membership.leader.clone();
    let failed = |source| Error::Gang { address: address.clone(), source };
    let listener = TcpListener::bind(&address).await.map_err(failed)?;
    let mut streams = JoinSet::new();
    while streams.len() + 1 < membership.size as usize {
        let (mut stream, _) = listener.accept().await.map_err(failed)?;
        let rank = stream.read_u32().await.map_err(failed)?;
        streams.spawn(async move {
            // Nothing more is said: the end of the stream is the end of the member.
            drop(stream.read_u8().await);
            rank
        });
    }
    Ok(Others { streams })
}

impl Others {
    /// Waits until one of them is gone.
    pub async fn lost(&mut self) -> Error {
        match self.streams.join_next().await {
            Some(Ok(rank)) => Error::MemberGone { rank },
            Some(Err(_)) | None => std::future::pending().await,
        }
    }
}

/// Connects to the leader and stays for as long as it does.
pub async fn follow(membership: &Membership) -> Error {
    let mut stream = loop {
        match TcpStream::connect(&membership.leader).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(TRY_EVERY).await,
        }
    };
    let said = async {
        stream.write_u32(membership.rank).await?;
        stream.read_u8().await
    };
    let source = match said.await {
        Ok(_) => io::Error::other("it says something"),
        Err(source) => source,
    };
    Error::Gang { address: membership.leader.clone(), source }
}
