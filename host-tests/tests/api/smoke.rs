use crate::helpers::*;
use std::net::Ipv4Addr;
#[tokio::test]
async fn smoke() {
    let scratch = Scratch::new();
    let db = database(&scratch, Ipv4Addr::LOCALHOST).await.unwrap();
    let service = Service::ready(db.variables("dob_api")).await;
    println!("{:?}", service.put("John", "1990-05-20").await);
    println!("{:?}", service.get("/hello/John").await);
    println!("{:?}", service.get("/readyz").await);
    println!("{:?}", service.get("/hello/Jo").await);
    println!("{:?}", service.request("HEAD", "/hello/John", "").await);
    println!("{}", service.log());
    for call in service.faults.take_calls() {
        println!("{call:?}");
    }
}
