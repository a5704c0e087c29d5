//! Both rings against a device that keeps no rule; see [`sumac_testbed::hostile`].

use proptest::collection::vec;
use proptest::prelude::*;
use sumac_testbed::hostile;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn survive_a_hostile_device(data in vec(any::<u8>(), 0..2000)) {
        hostile(&data);
    }
}
