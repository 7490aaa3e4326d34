"""Vocabulary of the made-up shop that the world generator fills: topics, words for titles and texts, names.

Every topic brings its own words, and every niche of a topic uses its own small selection of them, so that the words of
an item's title and text tell what taste it serves.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """The words of one shelf of the shop.

    Attributes:
        category: name of the shelf.
        department: the part of the shop that the shelf stands in.
        maker: what the creator is called in a text ("written by").
        house: last word of a brand name ("Press", "Records").
        price: typical price.
        kinds, adjectives, nouns, motifs: words; a niche draws its selection from the last three.
        titles: title patterns over `{adjective}`, `{noun}`, `{other}`, `{place}`.
    """

    category: str
    department: str
    maker: str
    house: str
    price: float
    kinds: tuple[str, ...]
    adjectives: tuple[str, ...]
    nouns: tuple[str, ...]
    motifs: tuple[str, ...]
    titles: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


TOPICS: tuple[Topic, ...] = (
    Topic(
        "Science Fiction",
        "Books",
        "written by",
        "Press",
        14.0,
        ("novel", "story collection", "novella"),
        _words(
            "Silent, Orbital, Distant, Machine, Luminous, Fractured, Hollow, Quantum, Frozen, Last, Drifting, Binary"
        ),
        _words(
            "Horizon, Colony, Signal, Engine, Comet, Ark, Station, Eclipse, Voyager, Beacon, Gravity, Archive, Meridian, "
            "Satellite, Dust, Threshold"
        ),
        _words(
            "first contact, generation ships, rogue machines, terraforming, lost colonies, time loops, deep space rescue, "
            "artificial minds, alien ruins, solar sails, clone identity, orbital politics"
        ),
        ("The {adjective} {noun}", "{noun} of {place}", "{adjective} {noun}", "Beyond the {noun}"),
    ),
    Topic(
        "Mystery & Noir",
        "Books",
        "written by",
        "Press",
        12.0,
        ("detective novel", "thriller", "case file"),
        _words("Crooked, Missing, Midnight, Velvet, Cold, Hidden, Broken, Second, Quiet, Poisoned, Borrowed, Rainy"),
        _words(
            "Alibi, Witness, Harbour, Ledger, Key, Confession, Lantern, Letter, Staircase, Motive, Portrait, Shadow, Debt, "
            "Inheritance, Platform, Garden"
        ),
        _words(
            "locked rooms, small town secrets, hard-boiled detectives, art theft, cold cases, courtroom drama, spy rings, "
            "family feuds, amateur sleuths, forged papers, river murders, blackmail"
        ),
        ("The {adjective} {noun}", "A {noun} in {place}", "Murder at {place}", "The {noun} and the {other}"),
    ),
    Topic(
        "Travel & History",
        "Books",
        "written by",
        "House",
        18.0,
        ("travelogue", "history", "atlas"),
        _words("Ancient, Salt, Winding, Lost, Golden, Northern, Silk, Forgotten, Coastal, Imperial, Slow, Painted"),
        _words(
            "Road, Empire, Harbour, Caravan, Map, River, Citadel, Pilgrim, Compass, Frontier, Monastery, Railway, Island, "
            "Market, Lighthouse, Dynasty"
        ),
        _words(
            "trade routes, island hopping, medieval cities, polar expeditions, railway journeys, desert crossings, "
            "old maps, river voyages, mountain monasteries, maritime empires, walking tours, border towns"
        ),
        ("{adjective} {noun}s", "The {noun} to {place}", "A {adjective} {noun}", "{place}: A {noun}"),
    ),
    Topic(
        "Jazz",
        "Records",
        "played by",
        "Records",
        22.0,
        ("LP", "live session", "double album"),
        _words("Blue, Smoky, Velvet, Late, Amber, Easy, Restless, Mellow, Crimson, Slow, Uptown, Moonlit"),
        _words(
            "Hour, Trio, Avenue, Serenade, Ballroom, Quarter, Minor, Rendezvous, Lullaby, Swing, Saxophone, Cigarette, "
            "Waltz, Encore, Nocturne, Taxi"
        ),
        _words(
            "tenor saxophone, brushed drums, bebop tempo, modal piano, big band brass, muted trumpet, latin percussion, "
            "upright bass, torch songs, free improvisation, organ groove, hard bop"
        ),
        ("{adjective} {noun}", "{noun} in {place}", "{adjective} {noun} Blues", "{noun} for {other}"),
    ),
    Topic(
        "Electronic",
        "Records",
        "produced by",
        "Records",
        20.0,
        ("EP", "album", "remix collection"),
        _words("Neon, Static, Liquid, Chrome, Pulse, Deep, Glass, Infra, Analog, Lucid, Hyper, Granular"),
        _words(
            "Circuit, Oscillator, Waveform, Cascade, Protocol, Mirage, Filter, Loop, Vapor, Sequence, Delay, Nightdrive, "
            "Voltage, Reverb, Cloud, Grid"
        ),
        _words(
            "modular synthesis, warehouse techno, ambient drones, broken beats, dub delays, acid basslines, "
            "field recordings, retro synths, minimal house, glitch textures, drum and bass, vocoder hooks"
        ),
        ("{adjective} {noun}", "{noun} {other}", "{noun} (After {place})", "{adjective} {noun} Theory"),
    ),
    Topic(
        "Folk & Acoustic",
        "Records",
        "sung by",
        "Records",
        19.0,
        ("album", "ballad collection", "live recording"),
        _words("Hollow, Wild, Gentle, Heather, Wandering, Barefoot, Old, Winter, Honest, Lonesome, Golden, Riverside"),
        _words(
            "Fiddle, Orchard, Valley, Kettle, Sparrow, Ballad, Meadow, Ferry, Hearth, Harvest, Willow, Lantern, Porch, "
            "Mandolin, Shepherd, Crossroads"
        ),
        _words(
            "fingerpicked guitar, murder ballads, close harmony, celtic fiddle, banjo tunes, sea shanties, "
            "campfire songs, dulcimer airs, protest songs, bluegrass breakdowns, lullabies, harvest dances"
        ),
        ("{adjective} {noun}", "The {noun} of {place}", "{noun} and {other}", "Songs from the {noun}"),
    ),
    Topic(
        "Comedy & Romance Films",
        "Films",
        "directed by",
        "Pictures",
        11.0,
        ("romantic comedy", "feature film", "holiday film"),
        _words(
            "Accidental, Charming, Reluctant, Second, Sunny, Perfect, Awkward, Borrowed, Sweet, Secret, Clumsy, Summer"
        ),
        _words(
            "Bridesmaid, Proposal, Bakery, Neighbour, Holiday, Kiss, Wedding, Roommate, Bookshop, Valentine, Honeymoon, "
            "Matchmaker, Letter, Duet, Suitcase, Balcony"
        ),
        _words(
            "mistaken identity, enemies to lovers, small town weddings, holiday romance, fake dating, office flirtation, "
            "second chances, meddling families, road trips, opposites attract, baking contests, pen friends"
        ),
        ("The {adjective} {noun}", "Love in {place}", "{noun} for Two", "My {adjective} {noun}"),
    ),
    Topic(
        "Documentary Films",
        "Films",
        "directed by",
        "Pictures",
        13.0,
        ("documentary", "nature film", "portrait"),
        _words("Hidden, Living, Deep, Wild, Human, Fragile, Unseen, Rising, Untold, Patient, Vanishing, Turning"),
        _words(
            "Reef, Factory, Glacier, Forest, Workshop, Migration, Tide, Savanna, Orchestra, Kitchen, Volcano, Harvest, "
            "Bridge, Stadium, Desert, Laboratory"
        ),
        _words(
            "coral reefs, animal migration, master craftsmen, climate science, street food, mountain rescue, "
            "orchestra rehearsals, ocean currents, urban wildlife, space engineering, old trades, marathon runners"
        ),
        ("{adjective} {noun}", "Inside the {noun}", "The {noun} of {place}", "{noun}: A {adjective} World"),
    ),
    Topic(
        "Outdoor & Trail",
        "Goods",
        "designed by",
        "Outfitters",
        64.0,
        ("backpack", "jacket", "tent", "stove"),
        _words("Ridge, Alpine, Storm, Granite, Summit, Featherlight, Rugged, Glacier, Pine, Dry, Trail, Timber"),
        _words(
            "Shelter, Pack, Shell, Hammock, Lantern, Stove, Boot, Flask, Quilt, Pole, Parka, Bivouac, Headlamp, Cookset, "
            "Harness, Compass"
        ),
        _words(
            "ultralight hiking, winter camping, bikepacking, alpine climbing, trail running, canoe trips, "
            "weekend festivals, desert trekking, hut tours, wild swimming, family camping, ski touring"
        ),
        ("{adjective} {noun}", "{place} {noun}", "{adjective} {noun} Pro", "{noun} & {other} Set"),
    ),
    Topic(
        "Kitchen & Baking",
        "Goods",
        "designed by",
        "Kitchenware",
        32.0,
        ("kitchen tool", "baking set", "pan", "jar set"),
        _words("Copper, Cast, Enamel, Rustic, Stoneware, Olive, Walnut, Marble, Ceramic, Carbon, Linen, Vintage"),
        _words(
            "Skillet, Whisk, Teapot, Grinder, Casserole, Rolling Pin, Mortar, Crock, Kettle, Cleaver, Griddle, Loaf Tin, "
            "Ladle, Steamer, Mandoline, Cake Stand"
        ),
        _words(
            "sourdough baking, slow cooking, home fermentation, pastry craft, espresso brewing, wok cooking, "
            "jam making, fresh pasta, tea ceremony, spice grinding, cake decorating, grilling"
        ),
        ("{adjective} {noun}", "{place} {noun}", "The {adjective} {noun}", "{noun} & {other} Set"),
    ),
    Topic(
        "Garden & Botany",
        "Goods",
        "grown by",
        "Nursery",
        21.0,
        ("seed box", "garden tool", "planter", "bulb set"),
        _words(
            "Blooming, Wild, Terracotta, Cottage, Evergreen, Meadow, Climbing, Scented, Shady, Heirloom, Woodland, Dwarf"
        ),
        _words(
            "Fern, Trowel, Planter, Rose, Lavender, Orchid, Trellis, Succulent, Seedling, Watering Can, Peony, Moss, "
            "Greenhouse, Tomato, Bonsai, Birdbath"
        ),
        _words(
            "balcony herbs, rose growing, bonsai care, vegetable beds, rock gardens, pollinator meadows, indoor jungles, "
            "orchid care, composting, water gardens, winter flowers, fruit espaliers"
        ),
        ("{adjective} {noun}", "{place} {noun}", "{adjective} {noun} Kit", "{noun} & {other} Collection"),
    ),
    Topic(
        "Games & Puzzles",
        "Goods",
        "invented by",
        "Games",
        36.0,
        ("board game", "card game", "puzzle", "party game"),
        _words("Cunning, Royal, Clockwork, Tiny, Epic, Cursed, Merchant, Wandering, Tangled, Secret, Dragon, Coastal"),
        _words(
            "Kingdom, Guild, Labyrinth, Tower, Expedition, Market, Cipher, Dungeon, Railroad, Gambit, Treasure, Village, "
            "Alchemist, Dominion, Fleet, Mosaic"
        ),
        _words(
            "worker placement, deck building, cooperative quests, hidden roles, tile laying, bluffing, word play, "
            "dungeon crawling, trading routes, escape rooms, jigsaw art, quick party rounds"
        ),
        ("{adjective} {noun}", "{noun}s of {place}", "The {adjective} {noun}", "{noun} & {other}"),
    ),
)

PLACES: tuple[str, ...] = _words(
    "Larkmoor, Saint Orla, Brindle Bay, Eastmere, Kestrel Point, Vell, Ashgrove, Port Amity, Tamsin Hill, Northolt Sound, "
    "Marrow Lake, Highfold, Quillon, Sablewood, Ostrand, Winterby, Coppergate, Luma, Fennick, Old Harrow, Mirador, "
    "Juniper Street, Belmarsh, Calla Verde"
)

FIRST_NAMES: tuple[str, ...] = _words(
    "Mira, Jonas, Amara, Leif, Ines, Tomas, Yuki, Nadia, Oskar, Priya, Elio, Freya, Kofi, Lucia, Emil, Zora, Ravi, Maren, "
    "Dario, Hana, Felix, Noor, Silas, Clara, Idris, Vera, Mateo, Signe, Anton, Leila, Caspar, Rosa, Bram, Thea, Omar, Linnea, "
    "Pavel, Esme, Hugo, Naomi"
)

LAST_NAMES: tuple[str, ...] = _words(
    "Holloway, Okafor, Lindqvist, Marchetti, Tanaka, Ferreira, Novak, Abara, Castellan, Whitlock, Moreau, Iyer, Brandt, "
    "Sorensen, Delgado, Kowalski, Haddad, Winther, Calloway, Petrov, Ashby, Nakamura, Rossi, Vance, Eriksen, Mbeki, Thorne, "
    "Salazar, Virtanen, Quill, Osei, Lambert, Horvat, Greaves, Santos, Kimura, Bellamy, Falk, Dragan, Ward"
)

HOUSES: tuple[str, ...] = _words(
    "Larkspur, Northwind, Paper Boat, Halcyon, Red Kite, Foxglove, Tin Lantern, Blue Heron, Oak & Ember, Meridian, "
    "Stray Cat, Seven Sisters"
)

REGIONS: tuple[str, ...] = _words("north, south, east, west, capital, islands, highlands, coast")
