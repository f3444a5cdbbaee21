//! The combinations with the older installed versions of aiortc. `matrix` has the latest.

use super::matrix::*;
use super::*;

/// A training with Python on either side: both connect, and files are sent in both directions.
macro_rules! trainings {
    ($version:expr) => {
        #[test]
        fn our_client_trains_by_session_string_on_a_python_worker() {
            trains(Native, Python($version), Session);
        }

        #[test]
        fn a_python_client_trains_with_room_credentials_on_our_worker() {
            trains(Python($version), Native, Room);
        }
    };
}

/// The other tests of `matrix`.
macro_rules! everything_else {
    ($version:expr) => {
        #[test]
        fn our_client_trains_with_room_credentials_on_a_python_worker() {
            trains(Native, Python($version), Room);
        }

        #[test]
        fn a_python_client_trains_by_session_string_on_our_worker() {
            trains(Python($version), Native, Session);
        }

        #[test]
        fn tracking() {
            tracks(Native, Python($version));
            tracks(Python($version), Native);
        }

        #[test]
        fn a_failing_job() {
            fails(Native, Python($version));
            fails(Python($version), Native);
        }

        #[test]
        fn a_busy_worker() {
            refuses_when_busy(Native, Python($version));
            refuses_when_busy(Python($version), Native);
        }

        #[test]
        fn packages_of_any_layout() {
            takes_every_layout(Native, Python($version));
            takes_every_layout(Python($version), Native);
        }

        #[test]
        fn fifty_mb_each_way_with_a_python_worker() {
            moves_50_mb_each_way(Native, Python($version));
        }

        #[test]
        fn fifty_mb_each_way_with_a_python_client() {
            moves_50_mb_each_way(Python($version), Native);
        }

        #[test]
        fn progress_and_stop() {
            shows_progress_and_stops(Native, Python($version));
            shows_progress_and_stops(Python($version), Native);
        }

        #[test]
        fn shared_storage() {
            shares_storage(Native, Python($version));
            shares_storage(Python($version), Native);
        }
    };
}

mod oldest {
    use super::*;
    trainings!(Aiortc::Oldest);
}

mod v1_14 {
    use super::*;
    trainings!(Aiortc::V1_14);
    everything_else!(Aiortc::V1_14);
}

mod v1_15 {
    use super::*;
    trainings!(Aiortc::V1_15);
}
