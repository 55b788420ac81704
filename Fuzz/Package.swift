// swift-tools-version:6.2
import PackageDescription

// A package of its own: what it needs to be built with (libFuzzer, sanitizers) is nothing for users. Built and run by
// scripts/fuzz.
let package = Package(
    name: "Fuzz",
    platforms: [.macOS(.v15)],
    dependencies: [
        .package(name: "swift-supervision", path: ".."),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
    ],
    targets: [
        .executableTarget(
            name: "FuzzCodec",
            dependencies: [
                .product(name: "AMQPPool", package: "swift-supervision"),
                .product(name: "NIOCore", package: "swift-nio"),
            ]
        ),
        .executableTarget(
            name: "FuzzActors",
            dependencies: [
                .product(name: "AMQPPool", package: "swift-supervision"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "RPCActors", package: "swift-supervision"),
                .product(name: "RPCReceiver", package: "swift-supervision"),
            ]
        ),
    ],
    swiftLanguageModes: [.v6]
)
