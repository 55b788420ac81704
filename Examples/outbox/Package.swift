// swift-tools-version:6.2
import PackageDescription

// A separate package, as yours would be. It shows the recipe "A transactional outbox" of QueueWorkers with a real database.
let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
    name: "outbox",
    platforms: [.macOS(.v15)],
    dependencies: [
        .package(name: "swift-supervision", path: "../.."),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
    ],
    targets: [
        .systemLibrary(
            name: "CSQLite",
            pkgConfig: "sqlite3",
            providers: [.apt(["libsqlite3-dev"]), .brew(["sqlite3"])]
        ),
        .target(
            name: "Outbox",
            dependencies: [
                "CSQLite",
                .product(name: "AMQPPool", package: "swift-supervision"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "QueueWorkers", package: "swift-supervision"),
                .product(name: "Supervision", package: "swift-supervision"),
            ],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "shop",
            dependencies: [
                "Outbox",
                .product(name: "AMQPPool", package: "swift-supervision"),
                .product(name: "Supervision", package: "swift-supervision"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "OutboxTests",
            dependencies: [
                "Outbox",
                "shop",
                .product(name: "AMQPPool", package: "swift-supervision"),
                .product(name: "LocalBroker", package: "swift-supervision"),
                .product(name: "Supervision", package: "swift-supervision"),
            ],
            swiftSettings: settings
        ),
    ],
    swiftLanguageModes: [.v6]
)
