"""The words the engine knows: the table of sounds, and the words that stand for several."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sa_ray.engines.procedural.recipes import animals, drums, machines, music, nature, objects
from sa_ray.engines.procedural.scene import Scene, Voice

Recipe = Callable[[Scene], Voice]


@dataclass(frozen=True, slots=True)
class Sound:
    """A recipe, and the words and phrases (comma-separated, singular) that ask for it."""

    recipe: Recipe
    words: str
    gain: float = 1.0
    """Weight in a mix with others."""


SOUNDS: Final = MappingProxyType(
    {
        "rain": Sound(nature.rain, "rain, raining, rainfall, rainy, drizzle, downpour, shower"),
        "thunder": Sound(nature.thunder, "thunder, lightning, thunderclap"),
        "wind": Sound(nature.wind, "wind, windy, breeze, gust, gale, blizzard, howling wind"),
        "ocean": Sound(nature.ocean, "ocean, wave, sea, surf, beach, shore, seaside, tide"),
        "river": Sound(
            nature.river,
            "river, stream, brook, creek, running water, water, waterfall, fountain, flowing",
        ),
        "drip": Sound(
            nature.drip, "drip, dripping, droplet, water drop, water drip, dripping water, cave"
        ),
        "bubbles": Sound(
            nature.bubbles,
            "bubble, bubbling, boiling, boiling water, underwater, underwater bubble",
        ),
        "fire": Sound(nature.fire, "fire, campfire, fireplace, bonfire, flame, crackling, burning"),
        "white_noise": Sound(nature.white_noise, "white noise, static, tv static, hiss, steam"),
        "brown_noise": Sound(nature.brown_noise, "brown noise, pink noise, red noise, rumble"),
        "birds": Sound(
            animals.birds,
            "bird, birdsong, chirping, tweet, songbird, sparrow, robin, chirping bird, bird song",
        ),
        "crickets": Sound(
            animals.crickets, "cricket, cicada, insect, grasshopper, chirping cricket"
        ),
        "dog": Sound(animals.dog, "dog, bark, barking, puppy, woof, dog bark, barking dog, hound"),
        "cat": Sound(animals.cat, "cat, meow, kitten, purr"),
        "owl": Sound(animals.owl, "owl, hoot, hooting"),
        "bees": Sound(animals.bees, "bee, buzzing, mosquito, fly, swarm, hive, wasp"),
        "crowd": Sound(
            animals.crowd,
            "crowd, people, talking, chatter, babble, cafe, market, restaurant, crowd noise",
        ),
        "applause": Sound(animals.applause, "applause, clapping, audience, ovation, clap"),
        "heartbeat": Sound(animals.heartbeat, "heartbeat, heart, heart beat, pulse"),
        "engine": Sound(
            machines.engine,
            "engine, motor, motorcycle, tractor, truck, generator, engine noise, lawnmower",
        ),
        "car": Sound(machines.car, "car, traffic, highway, automobile, vehicle, race car, driving"),
        "train": Sound(
            machines.train, "train, railway, railroad, locomotive, subway, steam train, tram"
        ),
        "horn": Sound(
            machines.horn, "horn, honk, train horn, car horn, foghorn, ship horn, train whistle"
        ),
        "siren": Sound(
            machines.siren,
            "siren, police, ambulance, police siren, police car, fire truck, fire engine",
        ),
        "alarm": Sound(
            machines.alarm, "alarm, buzzer, alert, fire alarm, car alarm, alarm clock, smoke alarm"
        ),
        "telephone": Sound(
            machines.telephone, "telephone, phone, ringing, ringtone, phone ring, phone ringing"
        ),
        "helicopter": Sound(machines.helicopter, "helicopter, chopper, rotor, quadcopter"),
        "jet": Sound(
            machines.jet, "jet, airplane, aeroplane, plane, aircraft, rocket, spaceship, jet engine"
        ),
        "fan": Sound(
            machines.fan, "fan, vacuum, vacuum cleaner, air conditioner, ventilation, hair dryer"
        ),
        "hum": Sound(
            machines.hum, "hum, humming, electric, electricity, electrical, transformer, buzz"
        ),
        "laser": Sound(
            machines.laser, "laser, blaster, zap, sci fi, ray gun, laser gun, raygun, pew"
        ),
        "computer": Sound(
            machines.computer, "computer, robot, beep, beeping, bleep, arcade, 8 bit, video game"
        ),
        "typing": Sound(
            machines.typing, "typing, keyboard typing, typewriter, computer keyboard, keyboard"
        ),
        "whoosh": Sound(machines.whoosh, "whoosh, swoosh, swish, swipe, transition, fly by, sword"),
        "bell": Sound(objects.bell, "bell, church bell, tolling, doorbell, bell toll"),
        "chime": Sound(
            objects.chime, "chime, wind chime, glockenspiel, jingle, music box, sparkle"
        ),
        "gong": Sound(objects.gong, "gong, cymbal, crash cymbal, tam tam, singing bowl"),
        "clock": Sound(
            objects.clock_tick, "clock, tick, ticking, tick tock, watch, clock tick, clock ticking"
        ),
        "metronome": Sound(objects.metronome, "metronome, click track"),
        "footsteps": Sound(
            objects.footsteps, "footstep, walking, step, walk, running, footfall, marching"
        ),
        "metal": Sound(
            objects.metal,
            "metal, metallic, clang, anvil, clank, metal impact, metallic impact, metallic hit, "
            "metal hit, hammer",
        ),
        "thud": Sound(objects.thud, "impact, hit, thud, punch, thump, slam, boom, kick, door slam"),
        "explosion": Sound(
            objects.explosion, "explosion, explode, blast, bomb, exploding, detonation"
        ),
        "gunshot": Sound(
            objects.gunshot, "gunshot, gun, gunfire, shot, rifle, pistol, shooting, gun shot"
        ),
        "glass": Sound(objects.glass, "glass, shatter, shattering, breaking glass, glass breaking"),
        "knock": Sound(objects.knock, "knock, knocking, door knock, door, knocking on door, wood"),
        "creak": Sound(
            objects.creak, "creak, creaking, squeak, hinge, door creak, creaking door, creaky door"
        ),
        "piano": Sound(music.piano, "piano, grand piano, keys, rhodes"),
        "guitar": Sound(
            music.guitar,
            "guitar, pluck, plucked, harp, banjo, acoustic guitar, electric guitar, ukulele",
        ),
        "bass": Sound(music.bass, "bass, bassline, bass guitar, bass line, 808", 0.8),
        "synth": Sound(
            music.synth, "synth, synthesizer, arpeggio, arp, synthwave, lead, electronic"
        ),
        "flute": Sound(music.flute, "flute, recorder, pan flute, whistle, clarinet"),
        "trumpet": Sound(
            music.trumpet, "trumpet, brass, fanfare, trombone, saxophone, french horn"
        ),
        "strings": Sound(
            music.strings, "string, violin, cello, string quartet, string section, viola"
        ),
        "choir": Sound(music.choir, "choir, choral, vocal, singing, chant, voice, chorus"),
        "organ": Sound(music.organ, "organ, church organ, pipe organ, accordion"),
        "drone": Sound(
            music.drone, "drone, ambient, pad, atmosphere, ethereal, ambience, space, synth pad"
        ),
        "drums": Sound(
            drums.drums,
            "drum, drum loop, drumming, percussion, beat, snare, drum kit, drum beat, kick drum",
        ),
        "hip_hop": Sound(drums.hip_hop, "hip hop, trap, rap, boom bap, hiphop"),
        "breakbeat": Sound(
            drums.breakbeat, "breakbeat, drum and bass, dnb, jungle beat, drum n bass"
        ),
        "techno": Sound(
            drums.techno, "techno, house, edm, trance, disco, house beat, dance, tech house"
        ),
    }
)
"""Every sound by name."""

BUNDLES: Final = MappingProxyType(
    {
        "storm": ("rain", "thunder", "wind"),
        "thunderstorm": ("rain", "thunder"),
        "rainstorm": ("rain", "wind"),
        "forest": ("birds", "wind"),
        "jungle": ("birds", "crickets", "river"),
        "garden": ("birds", "bees"),
        "meadow": ("birds", "crickets"),
        "night": ("crickets", "owl"),
        "city": ("car", "crowd"),
        "street": ("car", "footsteps"),
        "station": ("train", "crowd"),
        "battle": ("explosion", "gunshot"),
        "cheering": ("crowd", "applause"),
        "stadium": ("crowd", "applause"),
        "concert": ("applause", "drums", "guitar"),
        "song": ("drums", "bass", "piano"),
        "music": ("drums", "bass", "synth"),
        "jazz": ("drums", "bass", "piano"),
        "lofi": ("hip_hop", "piano"),
        "lo fi": ("hip_hop", "piano"),
        "rock": ("drums", "bass", "guitar"),
        "pop": ("drums", "bass", "synth"),
        "funk": ("drums", "bass", "guitar"),
        "orchestra": ("strings", "trumpet"),
        "orchestral": ("strings", "trumpet"),
        "symphony": ("strings", "trumpet", "flute"),
        "cinematic": ("strings", "drone"),
        "melody": ("piano",),
    }
)
"""Words for a place or a style, and the sounds that make it."""


@dataclass(frozen=True, slots=True)
class Modifier:
    """Adjectives (comma-separated) and the factors by which they bend every sound of the prompt."""

    words: str
    pace: float = 1.0
    pitch: float = 1.0
    intensity: float = 1.0
    muffled: bool = False


MODIFIERS: Final = (
    Modifier("fast, quick, rapid, energetic, frantic, upbeat", pace=1.4),
    Modifier("slow, lazy, relaxed", pace=0.7),
    Modifier("high, small, tiny, little, bright", pitch=1.35),
    Modifier("deep, low, big, huge, giant, large, dark", pitch=0.72),
    Modifier("heavy, strong, intense, violent, hard, dense", intensity=1.8),
    Modifier("light, soft, gentle, calm, faint, quiet", intensity=0.45),
    Modifier("distant, far, muffled, faraway, outside", muffled=True),
)
