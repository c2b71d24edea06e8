//! What kstatus and Argo CD think of our resources, asked from their own libraries (Go), on the samples that the
//! operator's own functions write.

use coequal_tests::go::go;

#[test]
fn kstatus_and_argo_cd_judge_every_situation_rightly() {
    match go("tests/gitops", &["test", "-mod=readonly", "-count=1", "./..."]) {
        Ok((passed, text)) => assert!(passed, "{text}"),
        Err(reason) => println!("SKIPPED kstatus_and_argo_cd_judge_every_situation_rightly: {reason}"),
    }
}
